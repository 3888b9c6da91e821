//go:build ignore

// Prints the vectors of eth.txt that go-ethereum v1.13.15 encodes (package eth/protocols/eth).
// In a module of its own that requires that version: go run -ldflags=-checklinkname=0 .
package main

import (
	"fmt"
	"math"
	"math/big"

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

func header(n int64) *types.Header {
	return &types.Header{ParentHash: common.HexToHash("0x11"), UncleHash: types.EmptyUncleHash, Root: common.HexToHash("0x22"),
		TxHash: types.EmptyTxsHash, ReceiptHash: types.EmptyReceiptsHash, Difficulty: big.NewInt(2), Number: big.NewInt(n),
		GasLimit: 30000000, Time: 1700000000, Extra: []byte("cairn"), BaseFee: big.NewInt(875000000)}
}

func main() {
	td, _ := new(big.Int).SetString("58750003716598352816469", 10)
	g := params.MainnetGenesisHash
	show("STATUS_68", &eth.StatusPacket{68, 1, td, common.HexToHash("0xfeedbeef"), g, forkid.ID{Hash: [4]byte{0x66, 0x8d, 0xb0, 0xaf}, Next: 0}})
	show("STATUS_68_NEXT", &eth.StatusPacket{68, 1337, big.NewInt(0), g, g, forkid.ID{Hash: [4]byte{0, 0, 0, 1}, Next: math.MaxUint64}})
	show("NEW_BLOCK_HASHES", &eth.NewBlockHashesPacket{{common.HexToHash("0x01"), 1}, {common.HexToHash("0xffee"), 0}, {common.HexToHash("0x03"), math.MaxUint64}})
	show("GET_HEADERS_NUMBER", &eth.GetBlockHeadersPacket{1111, &eth.GetBlockHeadersRequest{Origin: eth.HashOrNumber{Number: 9999}, Amount: 5, Skip: 5, Reverse: false}})
	show("GET_HEADERS_HASH", &eth.GetBlockHeadersPacket{math.MaxUint64, &eth.GetBlockHeadersRequest{Origin: eth.HashOrNumber{Hash: common.HexToHash("0xdeadc0de")}, Amount: 1024, Skip: 0, Reverse: true}})
	show("GET_HEADERS_ZERO", &eth.GetBlockHeadersPacket{0, &eth.GetBlockHeadersRequest{}})
	show("GET_HEADERS_MAX", &eth.GetBlockHeadersPacket{1, &eth.GetBlockHeadersRequest{Origin: eth.HashOrNumber{Number: math.MaxUint64}, Amount: math.MaxUint64, Skip: math.MaxUint64, Reverse: true}})
	h1, h2 := header(1), header(2)
	show("HEADERS", &eth.BlockHeadersPacket{1111, []*types.Header{h1, h2}})
	show("HEADERS_EMPTY", &eth.BlockHeadersPacket{7, nil})
	show("HEADER_1", h1)
	show("HEADER_2", h2)
	fmt.Printf("HASH_1 %x\n", h1.Hash())
	show("GET_BODIES", &eth.GetBlockBodiesPacket{1111, []common.Hash{common.HexToHash("0xdeadc0de"), common.HexToHash("0xfeedbeef")}})
	to := common.HexToAddress("0x3535353535353535353535353535353535353535")
	legacy := types.NewTx(&types.LegacyTx{Nonce: 8, GasPrice: big.NewInt(0x4a817c808), Gas: 0x2e248, To: &to, Value: big.NewInt(0x200), V: big.NewInt(0x25), R: common.HexToHash("0x64b1702d9298fee62dfeccc57d322a463ad55ca201256d01f62b45b2e1c21c12").Big(), S: common.HexToHash("0x64b1702d9298fee62dfeccc57d322a463ad55ca201256d01f62b45b2e1c21c10").Big()})
	dyn := types.NewTx(&types.DynamicFeeTx{ChainID: big.NewInt(1337), Nonce: 9, GasTipCap: big.NewInt(1), GasFeeCap: big.NewInt(1000), Gas: 21000, To: &to, Value: big.NewInt(1), Data: []byte("0123456789"), V: big.NewInt(1), R: big.NewInt(0x1234), S: big.NewInt(0x5678)})
	show("BODIES", &eth.BlockBodiesPacket{1111, []*eth.BlockBody{
		{Transactions: []*types.Transaction{legacy, dyn}, Uncles: []*types.Header{h1}},
		{},
		{Withdrawals: []*types.Withdrawal{{Index: 1, Validator: 2, Address: to, Amount: 3}}}}})
	show("BODY_0", &eth.BlockBody{Transactions: []*types.Transaction{legacy, dyn}, Uncles: []*types.Header{h1}})
	show("BODY_2", &eth.BlockBody{Withdrawals: []*types.Withdrawal{{Index: 1, Validator: 2, Address: to, Amount: 3}}})
	b := types.NewBlockWithHeader(h2).WithBody([]*types.Transaction{legacy, dyn}, []*types.Header{h1})
	show("NEW_BLOCK", &eth.NewBlockPacket{b, td})
	show("NEW_BLOCK_EMPTY", &eth.NewBlockPacket{types.NewBlockWithHeader(h2), big.NewInt(0)})
	show("NEW_BLOCK_WITHDRAWALS", &eth.NewBlockPacket{types.NewBlockWithHeader(h2).WithWithdrawals([]*types.Withdrawal{{Index: 1, Validator: 2, Address: to, Amount: 3}}), big.NewInt(1)})
	show("GET_RECEIPTS", &eth.GetReceiptsPacket{1111, []common.Hash{common.HexToHash("0xdeadc0de"), common.HexToHash("0xfeedbeef")}})
	r0 := &types.Receipt{Type: 0, Status: 1, CumulativeGasUsed: 21000, Logs: []*types.Log{{Address: to, Topics: []common.Hash{common.HexToHash("0xdead")}, Data: []byte{1, 0, 255}}}}
	r2 := &types.Receipt{Type: 2, Status: 0, CumulativeGasUsed: 42000, Logs: nil}
	r0.Bloom = types.CreateBloom(types.Receipts{r0})
	show("RECEIPTS_68", &eth.ReceiptsPacket{1111, [][]*types.Receipt{{r0, r2}, {}}})
	show("RECEIPTS_68_BLOCK_0", []*types.Receipt{r0, r2})
	show("NEW_POOLED", &eth.NewPooledTransactionHashesPacket{[]byte{0, 2}, []uint32{111, 222}, []common.Hash{common.HexToHash("0xaa"), common.HexToHash("0xbb")}})
	show("GET_POOLED", &eth.GetPooledTransactionsPacket{1111, []common.Hash{common.HexToHash("0xaa")}})
	show("POOLED", &eth.PooledTransactionsPacket{1111, []*types.Transaction{legacy, dyn}})
	show("TRANSACTIONS", eth.TransactionsPacket{legacy, dyn})
}
