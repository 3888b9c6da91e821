package geth

import (
	"io"
	"os"
	"testing"

	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/rlp"
)

// Blocks are the node's blocks from one number to another, in RLP, back to back, as `geth export` writes them.
func (n *Node) Blocks(first, last uint64) []byte {
	n.t.Helper()
	var blocks []*types.Block
	for number := first; number <= last; number++ {
		blocks = append(blocks, n.Eth.BlockChain().GetBlockByNumber(number))
	}
	return Encoded(n.t, blocks)
}

// Encoded are blocks in RLP, back to back.
func Encoded(t testing.TB, blocks []*types.Block) []byte {
	t.Helper()
	var all []byte
	for _, block := range blocks {
		bytes, err := rlp.EncodeToBytes(block)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, bytes...)
	}
	return all
}

// ReadBlocks reads a file of blocks in RLP, back to back.
func ReadBlocks(t testing.TB, path string) []*types.Block {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var blocks []*types.Block
	for stream := rlp.NewStream(file, 0); ; {
		block := new(types.Block)
		if err := stream.Decode(block); err == io.EOF {
			return blocks
		} else if err != nil {
			t.Fatal(err)
		}
		blocks = append(blocks, block)
	}
}

// Receipts are those of a block as eth/69 has them: a list of [type, status, gas used so far, logs], without blooms.
func (n *Node) Receipts(number uint64) []byte {
	n.t.Helper()
	chain := n.Eth.BlockChain()
	slim := []any{}
	for _, receipt := range chain.GetReceiptsByHash(chain.GetBlockByNumber(number).Hash()) {
		slim = append(slim, []any{receipt.Type, receipt.Status, receipt.CumulativeGasUsed, receipt.Logs})
	}
	bytes, err := rlp.EncodeToBytes(slim)
	if err != nil {
		n.t.Fatal(err)
	}
	return bytes
}
