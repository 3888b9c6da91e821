package interop

import (
	"fmt"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	protocol "github.com/ethereum/go-ethereum/eth/protocols/eth"
	"github.com/ethereum/go-ethereum/p2p"
	"github.com/ethereum/go-ethereum/p2p/enode"
)

// answerLimit is for one answer of at most 2 MiB over loopback.
const answerLimit = 10 * time.Second

// asker is a peer on geth's wire code that asks and checks, and has nothing to give.
type asker struct {
	chain *core.BlockChain
	peers chan *protocol.Peer
}

func (a *asker) Chain() *core.BlockChain     { return a.chain }
func (a *asker) TxPool() protocol.TxPool     { return nil }
func (a *asker) BlobPool() protocol.BlobPool { return nil }
func (a *asker) AcceptTxs() bool             { return false }
func (a *asker) PeerInfo(enode.ID) any       { return nil }
func (a *asker) Handle(_ *protocol.Peer, p protocol.Packet) error {
	return fmt.Errorf("nobody asked for %T", p)
}

func (a *asker) RunPeer(peer *protocol.Peer, handle protocol.Handler) error {
	head := a.chain.CurrentHeader()
	blocks := protocol.BlockRangeUpdatePacket{LatestBlock: head.Number.Uint64(), LatestBlockHash: head.Hash()}
	if err := peer.Handshake(a.chain.Config().ChainID.Uint64(), a.chain, blocks); err != nil {
		return err
	}
	a.peers <- peer
	return handle(peer)
}

// ask dials a node with one version of eth, for a chain that a geth node has.
func ask(t *testing.T, chain *core.BlockChain, url string) *protocol.Peer {
	t.Helper()
	key, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	asker := &asker{chain: chain, peers: make(chan *protocol.Peer, 1)}
	server := &p2p.Server{Config: p2p.Config{
		PrivateKey: key, Name: "asker", MaxPeers: 1, NoDiscovery: true,
		Protocols: protocol.MakeProtocols(asker, chain.Config().ChainID.Uint64(), nil),
	}}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	server.AddPeer(enode.MustParseV4(url))
	select {
	case peer := <-asker.peers:
		return peer
	case <-time.After(answerLimit):
		t.Fatalf("no peer after %v", answerLimit)
		return nil
	}
}

// answer waits for what a request brought, and returns it with what geth has found of it: hashes or roots.
func answer[Found any](t *testing.T, request func(chan *protocol.Response) (*protocol.Request, error)) (any, Found) {
	t.Helper()
	sink := make(chan *protocol.Response, 1)
	if _, err := request(sink); err != nil {
		t.Fatal(err)
	}
	select {
	case response := <-sink:
		response.Done <- nil
		return response.Res, response.Meta.(Found)
	case <-time.After(answerLimit):
		t.Fatalf("no answer after %v", answerLimit)
		panic("unreachable")
	}
}

// checkAnswers asks a node for all of a chain, and has geth's code check what comes.
func checkAnswers(t *testing.T, peer *protocol.Peer, blocks []*types.Block) {
	t.Helper()
	var hashes, transactions, withdrawals, receipts []common.Hash
	var gasUsed, times []uint64
	for _, block := range blocks {
		header := block.Header()
		hashes = append(hashes, block.Hash())
		transactions = append(transactions, header.TxHash)
		receipts = append(receipts, header.ReceiptHash)
		gasUsed, times = append(gasUsed, header.GasUsed), append(times, header.Time)
		if header.WithdrawalsHash != nil {
			withdrawals = append(withdrawals, *header.WithdrawalsHash)
		}
	}
	last := len(blocks)

	_, found := answer[[]common.Hash](t, func(sink chan *protocol.Response) (*protocol.Request, error) {
		return peer.RequestHeadersByNumber(uint64(last), last, 0, true, sink)
	})
	for i, hash := range found {
		if hash != hashes[last-1-i] {
			t.Fatalf("header %d in reverse is another", last-1-i)
		}
	}
	if len(found) != min(last, 1024) {
		t.Fatalf("%d headers in reverse, want %d", len(found), last)
	}
	_, found = answer[[]common.Hash](t, func(sink chan *protocol.Response) (*protocol.Request, error) {
		return peer.RequestHeadersByHash(hashes[0], 10, 2, false, sink)
	})
	if len(found) != 10 || found[9] != hashes[27] {
		t.Fatalf("10 headers with 2 left out between: %d", len(found))
	}

	for done := 0; done < last; {
		_, bodies := answer[protocol.BlockBodyHashes](t, func(sink chan *protocol.Response) (*protocol.Request, error) {
			return peer.RequestBodies(hashes[done:min(done+128, last)], sink)
		})
		if len(bodies.TransactionRoots) == 0 {
			t.Fatalf("no bodies from %d on", done)
		}
		for i, root := range bodies.TransactionRoots {
			if root != transactions[done+i] || (withdrawals != nil && bodies.WithdrawalRoots[i] != withdrawals[done+i]) {
				t.Fatalf("body %d is another", done+i)
			}
		}
		done += len(bodies.TransactionRoots)
	}
	for done := 0; done < last; {
		to := min(done+128, last)
		_, roots := answer[[]common.Hash](t, func(sink chan *protocol.Response) (*protocol.Request, error) {
			return peer.RequestReceipts(hashes[done:to], gasUsed[done:to], times[done:to], sink)
		})
		if len(roots) == 0 {
			t.Fatalf("no receipts from %d on", done)
		}
		for i, root := range roots {
			if root != receipts[done+i] {
				t.Fatalf("receipts of block %d have the root %v, want %v", done+i+1, root, receipts[done+i])
			}
		}
		done += len(roots)
	}
	if peer.Version() >= protocol.ETH71 {
		_, lists := answer[[]common.Hash](t, func(sink chan *protocol.Response) (*protocol.Request, error) {
			return peer.RequestBALs(hashes[:3], sink)
		})
		if len(lists) != 3 || lists[0] != (common.Hash{}) {
			t.Fatalf("block access lists that are not there: %v", lists)
		}
	}
}
