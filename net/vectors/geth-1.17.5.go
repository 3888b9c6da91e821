//go:build ignore

// Prints the vectors of eth.txt that go-ethereum v1.17.5 encodes (package eth/protocols/eth).
// In a module of its own that requires that version: go run -ldflags=-checklinkname=0 .
package main

import (
	"fmt"
	"math"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/forkid"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/eth/protocols/eth"
	"github.com/ethereum/go-ethereum/params"
	"github.com/ethereum/go-ethereum/rlp"
)

func show(name string, v interface{}) {
	b, err := rlp.EncodeToBytes(v)
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s %x\n", name, b)
}

func main() {
	g := params.MainnetGenesisHash
	show("STATUS_69", &eth.StatusPacket{69, 1, g, forkid.ID{Hash: [4]byte{0x66, 0x8d, 0xb0, 0xaf}, Next: 0}, 15537394, 23000000, common.HexToHash("0xfeedbeef")})
	show("STATUS_69_NEXT", &eth.StatusPacket{69, 1337, g, forkid.ID{Hash: [4]byte{0, 0, 0, 1}, Next: math.MaxUint64}, 0, 0, g})
	show("STATUS_70", &eth.StatusPacket{70, 1, g, forkid.ID{Hash: [4]byte{0x66, 0x8d, 0xb0, 0xaf}, Next: 0}, 15537394, 23000000, common.HexToHash("0xfeedbeef")})
	show("BLOCK_RANGE_UPDATE", &eth.BlockRangeUpdatePacket{15537394, 23000000, common.HexToHash("0xfeedbeef")})
	show("BLOCK_RANGE_ZERO", &eth.BlockRangeUpdatePacket{0, 0, g})
	show("GET_RECEIPTS_69", &eth.GetReceiptsPacket69{1111, []common.Hash{common.HexToHash("0xdeadc0de"), common.HexToHash("0xfeedbeef")}})
	show("GET_RECEIPTS_70", &eth.GetReceiptsPacket70{1111, 5, []common.Hash{common.HexToHash("0xdeadc0de"), common.HexToHash("0xfeedbeef")}})
	to := common.HexToAddress("0x3535353535353535353535353535353535353535")
	r0 := &types.Receipt{Type: 0, Status: 1, CumulativeGasUsed: 21000, Logs: []*types.Log{{Address: to, Topics: []common.Hash{common.HexToHash("0xdead")}, Data: []byte{1, 0, 255}}}}
	r2 := &types.Receipt{Type: 2, Status: 0, CumulativeGasUsed: 42000, Logs: nil}
	rl := eth.NewReceiptList([]*types.Receipt{r0, r2})
	raw, err := rlp.EncodeToRawList([]*eth.ReceiptList{rl})
	if err != nil {
		panic(err)
	}
	show("RECEIPTS_69", &eth.ReceiptsPacket69{1111, raw})
	show("RECEIPTS_69_BLOCK_0", rl)
	show("RECEIPTS_70", &eth.ReceiptsPacket70{1111, true, raw})
	show("RECEIPTS_70_WHOLE", &eth.ReceiptsPacket70{1111, false, raw})
	show("RECEIPTS_70_EMPTY", &eth.ReceiptsPacket70{RequestId: 1111})
	show("GET_RECEIPTS_70_START", &eth.GetReceiptsPacket70{1111, 0, []common.Hash{common.HexToHash("0xdeadc0de"), common.HexToHash("0xfeedbeef")}})
	show("STATUS_71", &eth.StatusPacket{71, 1, g, forkid.ID{Hash: [4]byte{0x66, 0x8d, 0xb0, 0xaf}, Next: 0}, 15537394, 23000000, common.HexToHash("0xfeedbeef")})
	show("GET_ACCESS_LISTS", &eth.GetBlockAccessListsPacket{1111, []common.Hash{common.HexToHash("0xdeadc0de"), common.HexToHash("0xfeedbeef")}})
	// What is not there, an empty list, a list of one account without changes.
	var lists rlp.RawList[rlp.RawValue]
	lists.AppendRaw(rlp.EmptyString)
	lists.AppendRaw(rlp.EmptyList)
	account, err := rlp.EncodeToBytes([]any{[]any{to, []any{}, []any{}, []any{}, []any{}, []any{}}})
	if err != nil {
		panic(err)
	}
	lists.AppendRaw(account)
	show("ACCESS_LISTS", &eth.BlockAccessListPacket{1111, lists})
	fmt.Printf("ACCESS_LISTS_2 %x\n", account)
	var none rlp.RawList[rlp.RawValue]
	none.AppendRaw(rlp.EmptyString)
	none.AppendRaw(rlp.EmptyString)
	show("ACCESS_LISTS_NONE", &eth.BlockAccessListPacket{1111, none})
	show("NEW_POOLED_71", &eth.NewPooledTransactionHashesPacket71{[]byte{0, 2}, []uint32{111, 222}, []common.Hash{common.HexToHash("0xaa"), common.HexToHash("0xbb")}})
}
