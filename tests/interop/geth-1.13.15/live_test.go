// Package interop has go-ethereum 1.13.15, the last version that seals clique, and cairn as each other's only peer.
package interop

import (
	"bytes"
	"crypto/ecdsa"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cairn/interop/common/cairn"
	"cairn/interop/common/geth"

	"github.com/ethereum/go-ethereum/accounts"
	"github.com/ethereum/go-ethereum/consensus/beacon"
	"github.com/ethereum/go-ethereum/consensus/clique"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/crypto"
)

const (
	// epoch puts checkpoints among the few blocks of a test.
	epoch = 5
	// stepLimit is for what takes some intervals of a second or two, on a busy machine.
	stepLimit = 60 * time.Second
)

// forEachWay runs a test for each side dialling.
func forEachWay(t *testing.T, test func(t *testing.T, gethDials bool)) {
	for _, gethDials := range []bool{true, false} {
		dialler := map[bool]string{true: "geth", false: "cairn"}[gethDials]
		t.Run(dialler+" dials", func(t *testing.T) { test(t, gethDials) })
	}
}

// connect has one of the two dial the other, and checks that they speak eth/68.
func connect(t *testing.T, peer *geth.Node, store *cairn.Store, gethDials bool, args ...string) *cairn.Node {
	t.Helper()
	var node *cairn.Node
	if gethDials {
		node = store.Start(args...)
		peer.Dial(node.Enode)
	} else {
		node = store.Start(append(args, "--bootnodes", peer.Enode())...)
	}
	if spoken, inbound := peer.Peer(); spoken != 68 || inbound == gethDials {
		t.Fatalf("geth speaks eth/%d and was dialled: %v; want eth/68 and %v", spoken, inbound, !gethDials)
	}
	return node
}

// mine has a node seal with one of cairn.Keys.
func mine(t *testing.T, peer *geth.Node, index int) {
	t.Helper()
	mineWith(peer, geth.Key(t, index))
}

func mineWith(peer *geth.Node, key *ecdsa.PrivateKey) {
	engine := peer.Eth.Engine().(*beacon.Beacon).InnerEngine().(*clique.Clique)
	engine.Authorize(crypto.PubkeyToAddress(key.PublicKey), func(_ accounts.Account, _ string, data []byte) ([]byte, error) {
		return crypto.Sign(crypto.Keccak256(data), key)
	})
	// Otherwise it takes no transactions, nor announced blocks, before its first sync.
	peer.Eth.SetSynced()
	peer.Eth.Miner().Start()
}

// send puts an account's next transactions into a node's pool.
func send(t *testing.T, peer *geth.Node, account *geth.Account) {
	t.Helper()
	for _, err := range peer.Eth.TxPool().Add(account.Next(t), true, true) {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// grows waits until geth's chain has so many more blocks.
func grows(t *testing.T, peer *geth.Node, blocks uint64) {
	t.Helper()
	from := peer.Head().Number
	if !cairn.Within(stepLimit, func() bool { return peer.Head().Number >= from+blocks }) {
		t.Fatalf("geth's head is %d, %v after it was %d", peer.Head().Number, stepLimit, from)
	}
}

// agree waits until cairn's head is geth's, which may move meanwhile.
func agree(t *testing.T, peer *geth.Node, store *cairn.Store, limit time.Duration) {
	t.Helper()
	if !cairn.Within(limit, func() bool { return store.Head() == peer.Head() }) {
		t.Fatalf("cairn's head is %v and geth's %v after %v", store.Head(), peer.Head(), limit)
	}
}

// same checks that cairn has geth's chain and, of its last blocks, the receipts, byte for byte.
func same(t *testing.T, peer *geth.Node, store *cairn.Store) {
	t.Helper()
	last := store.Head().Number
	store.ReachesReceipts(last, stepLimit)
	if !bytes.Equal(store.Blocks(1, last), peer.Blocks(1, last)) {
		t.Fatal("cairn's blocks are not geth's")
	}
	// A process each: all blocks of a live chain, not all of a generated one.
	for number := max(last, 30) - 29; number <= last; number++ {
		if !bytes.Equal(store.Receipts(number), peer.Receipts(number)) {
			t.Fatalf("cairn's receipts of block %d are not geth's", number)
		}
	}
	store.Sound()
}

func TestCairnFollowsGethThatSealsTransactions(t *testing.T) {
	forEachWay(t, func(t *testing.T, gethDials bool) {
		const period = 1
		genesisFile := cairn.Clique(t, 1, period, epoch, uint64(time.Now().Unix()))
		config := geth.Config{
			Genesis: geth.ReadGenesis(t, genesisFile), DataDir: filepath.Join(t.TempDir(), "geth"), Etherbase: geth.Key(t, 0),
			Dialled: !gethDials,
		}
		store, account := cairn.Init(t, genesisFile), geth.NewAccount(geth.Key(t, 1))
		for _, when := range []string{"at first", "after both were started again"} {
			peer := geth.Start(t, config)
			mine(t, peer, 0)
			send(t, peer, account)
			// Some are there to catch up with, the rest is followed live.
			grows(t, peer, 3)
			node := connect(t, peer, store, gethDials, "--receipts")
			agree(t, peer, store, stepLimit)
			for range 3 {
				send(t, peer, account)
				grows(t, peer, 1)
				agree(t, peer, store, 2*period*time.Second)
				store.ReachesReceipts(store.Head().Number, 2*period*time.Second)
			}
			peer.Eth.StopMining()
			agree(t, peer, store, stepLimit)
			same(t, peer, store)
			txs := 0
			for number := range peer.Head().Number {
				txs += len(peer.Eth.BlockChain().GetBlockByNumber(number + 1).Transactions())
			}
			if txs == 0 {
				t.Fatal("geth sealed no transactions")
			}
			t.Logf("%s: %d blocks, %d transactions", when, peer.Head().Number, txs)
			node.Stop()
			peer.Stop()
		}
	})
}

func TestGethImportsWhatCairnSealsWithinTwoIntervals(t *testing.T) {
	forEachWay(t, func(t *testing.T, gethDials bool) {
		const period, live = 2, 4
		genesisFile := cairn.Clique(t, 1, period, epoch, uint64(time.Now().Unix()))
		config := geth.Config{
			Genesis: geth.ReadGenesis(t, genesisFile), DataDir: filepath.Join(t.TempDir(), "geth"), Dialled: !gethDials,
		}
		store, signer := cairn.Init(t, genesisFile), cairn.KeyFile(t, 0)
		for _, when := range []string{"at first", "after both were started again"} {
			peer := geth.Start(t, config)
			heads := make(chan core.ChainHeadEvent, 64)
			subscription := peer.Eth.BlockChain().SubscribeChainHeadEvent(heads)
			node := connect(t, peer, store, gethDials, "--receipts", "--enable-consensus", "--signer-key", signer)
			// What it has to catch up with first is not timed.
			agree(t, peer, store, stepLimit)
			for len(heads) > 0 {
				<-heads
			}
			for range live {
				select {
				case head := <-heads:
					late := time.Since(time.Unix(int64(head.Block.Time()), 0))
					t.Logf("%s: block %d imported %v after its time", when, head.Block.NumberU64(), late.Round(time.Millisecond))
					if late > 2*period*time.Second {
						t.Errorf("that is more than two intervals")
					}
				case <-time.After(stepLimit):
					t.Fatalf("geth imported nothing in %v", stepLimit)
				}
			}
			subscription.Unsubscribe()
			node.Stop()
			peer.Reaches(store.Head().Hash, stepLimit)
			same(t, peer, store)
			peer.Stop()
		}
	})
}

// generatedBlocks are more than an answer holds, and enough for geth to fetch them by a skeleton.
const generatedBlocks = 1100

func TestGethCatchesUpWithCairn(t *testing.T) {
	genesisFile, file := cairn.Generate(t, generatedBlocks)
	forEachWay(t, func(t *testing.T, gethDials bool) {
		store := cairn.Init(t, genesisFile, file)
		peer := geth.Start(t, geth.Config{
			Genesis: geth.ReadGenesis(t, genesisFile), DataDir: t.TempDir(), Dialled: !gethDials,
		})
		// The generated chain is sealed by the first key, and cairn goes on with it meanwhile.
		node := connect(t, peer, store, gethDials, "--enable-consensus", "--signer-key", cairn.KeyFile(t, 0))
		if !cairn.Within(stepLimit, func() bool { return peer.Head().Number > generatedBlocks+3 }) {
			t.Fatalf("geth's head is %v after %v", peer.Head(), stepLimit)
		}
		node.Stop()
		// In its first sync geth asks for news every three seconds and takes none in between: the last blocks it may lack.
		if head := peer.Head(); store.Hash(head.Number) != head.Hash {
			t.Fatalf("geth's block %d is not cairn's", head.Number)
		}
	})
}

func TestCairnCatchesUpWithGeth(t *testing.T) {
	genesisFile, file := cairn.Generate(t, generatedBlocks)
	blocks := geth.ReadBlocks(t, file)
	forEachWay(t, func(t *testing.T, gethDials bool) {
		peer := geth.Start(t, geth.Config{
			Genesis: geth.ReadGenesis(t, genesisFile), DataDir: t.TempDir(), Etherbase: geth.Key(t, 0), Dialled: !gethDials,
		})
		peer.Insert(blocks)
		mine(t, peer, 0)
		store := cairn.Init(t, genesisFile)
		node := connect(t, peer, store, gethDials, "--receipts")
		grows(t, peer, 3)
		peer.Eth.StopMining()
		agree(t, peer, store, stepLimit)
		same(t, peer, store)
		node.Stop()
	})
}

func TestCairnAndGethSealInTurn(t *testing.T) {
	const period, blocks = 1, 12
	genesisFile := cairn.Clique(t, 2, period, epoch, uint64(time.Now().Unix()))
	store := cairn.Init(t, genesisFile)
	peer := geth.Start(t, geth.Config{
		Genesis: geth.ReadGenesis(t, genesisFile), DataDir: filepath.Join(t.TempDir(), "geth"), Etherbase: geth.Key(t, 1),
		Dialled: true,
	})
	// First, for until then it lets go what it is told.
	mine(t, peer, 1)
	node := connect(t, peer, store, false, "--receipts", "--enable-consensus", "--signer-key", cairn.KeyFile(t, 0))
	account := geth.NewAccount(geth.Key(t, 2))
	for range blocks {
		send(t, peer, account)
		grows(t, peer, 1)
	}
	peer.Eth.StopMining()
	// Without geth's turn cairn's is over after one block.
	agree(t, peer, store, stepLimit)
	sealed := map[string]int{}
	for number := range peer.Head().Number {
		block := peer.Eth.BlockChain().GetBlockByNumber(number + 1)
		signer, err := peer.Eth.Engine().Author(block.Header())
		if err != nil {
			t.Fatal(err)
		}
		sealed[fmt.Sprintf("%x", signer)]++
	}
	t.Logf("sealed: %v", sealed)
	for _, address := range cairn.Addresses[:2] {
		if sealed[address] < blocks/2-1 {
			t.Errorf("%s sealed %d of %d blocks", address, sealed[address], peer.Head().Number)
		}
	}
	same(t, peer, store)
	node.Stop()
}

func TestCairnBeginsAtACheckpointOfGeths(t *testing.T) {
	genesisFile := cairn.Clique(t, 1, 1, epoch, uint64(time.Now().Unix()))
	peer := geth.Start(t, geth.Config{
		Genesis: geth.ReadGenesis(t, genesisFile), DataDir: t.TempDir(), Etherbase: geth.Key(t, 0), Dialled: true,
	})
	account := geth.NewAccount(geth.Key(t, 1))
	mine(t, peer, 0)
	for range 2 * epoch {
		send(t, peer, account)
		grows(t, peer, 1)
	}
	chain := peer.Eth.BlockChain()
	trusted := chain.GetBlockByNumber(2 * epoch)
	td := chain.GetTd(trusted.Hash(), trusted.NumberU64())
	checkpoint := fmt.Sprintf("%d:%v:%v", trusted.NumberU64(), trusted.Hash(), td)
	store := cairn.Init(t, genesisFile)
	node := store.Start("--checkpoint", checkpoint, "--bootnodes", peer.Enode())
	grows(t, peer, 2)
	peer.Eth.StopMining()
	agree(t, peer, store, stepLimit)
	if !strings.Contains(node.Log(), "Begun at the trusted checkpoint") {
		t.Fatalf("it did not begin at the checkpoint:\n%s", node.Log())
	}
	last := store.Head().Number
	if !bytes.Equal(store.Blocks(1, last), peer.Blocks(1, last)) {
		t.Fatal("cairn's blocks are not geth's")
	}
	node.Stop()
}
