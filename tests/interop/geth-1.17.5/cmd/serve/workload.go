// What is asked, and what is right for an answer.

package main

import (
	"bytes"
	"fmt"

	"github.com/ethereum/go-ethereum/eth/protocols/eth"
	"github.com/ethereum/go-ethereum/rlp"
)

// softLimitBytes is where an answer may end before all that was asked for.
const softLimitBytes = 2 << 20

// workload is one kind of request, again and again, and what is right for an answer.
type workload struct {
	name      string
	ask, want uint64
	amount    int
	// first is the number of the block that the nth request begins with.
	first func(n uint64) int
	// request makes the nth request.
	request func(n uint64) any
	chain   *items
}

func workloads(chain *chain) []workload {
	bodies := func(name string, amount int) workload {
		// Far enough apart that no request's blocks are all those of the one before.
		first := func(n uint64) int { return 1 + int(n*37)%(blocks-amount) }
		return workload{name, eth.GetBlockBodiesMsg, eth.BlockBodiesMsg, amount, first, func(n uint64) any {
			return &eth.GetBlockBodiesPacket{RequestId: n, GetBlockBodiesRequest: chain.hashes[first(n) : first(n)+amount]}
		}, &chain.bodies}
	}
	headers := func(name string, amount int) workload {
		first := func(n uint64) int { return 1 + int(n)%(blocks-amount) }
		return workload{name, eth.GetBlockHeadersMsg, eth.BlockHeadersMsg, amount, first, func(n uint64) any {
			return &eth.GetBlockHeadersPacket{RequestId: n, GetBlockHeadersRequest: &eth.GetBlockHeadersRequest{
				Origin: eth.HashOrNumber{Number: uint64(first(n))}, Amount: uint64(amount),
			}}
		}, &chain.headers}
	}
	return []workload{
		bodies("128 bodies", 128),
		// What fits into an answer, for those who do not cut one.
		bodies("35 bodies", 35),
		headers("1,024 headers", 1024),
		headers("1 header", 1),
	}
}

// check tells which request was answered. The answer must be of the chain's own bytes from the block asked for on: all that
// was asked for, or what fits into an answer.
func (w *workload) check(answer []byte) (id uint64, err error) {
	content, _, err := rlp.SplitList(answer)
	if err != nil {
		return 0, err
	}
	id, rest, err := rlp.SplitUint64(content)
	if err != nil {
		return 0, err
	}
	got, _, err := rlp.SplitList(rest)
	if err != nil {
		return 0, err
	}
	first, amount := w.first(id), 0
	for amount < w.amount && len(w.chain.from(first, amount+1)) <= len(got) {
		amount++
	}
	switch {
	case amount == 0 || !bytes.Equal(got, w.chain.from(first, amount)):
		return 0, fmt.Errorf("the answer to request %d is not block %d and what follows, of %d bytes", id, first, len(got))
	case amount < w.amount && len(w.chain.from(first, amount+1)) <= softLimitBytes:
		return 0, fmt.Errorf("the answer to request %d ends after %d of %d items, at %d bytes", id, amount, w.amount, len(got))
	}
	return id, nil
}
