// Package interop has go-ethereum 1.17.5, a whole node of it, and cairn as each other's only peer.
package interop

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"cairn/interop/common/cairn"
	"cairn/interop/common/geth"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/eth"
	protocol "github.com/ethereum/go-ethereum/eth/protocols/eth"
	"github.com/ethereum/go-ethereum/eth/syncer"
	"github.com/ethereum/go-ethereum/node"
)

// syncLimit is for a chain of some hundred blocks over loopback, on a busy machine.
const syncLimit = 60 * time.Second

// forEachWay runs a test for each version of eth, and for each side dialling.
func forEachWay(t *testing.T, test func(t *testing.T, version uint, gethDials bool)) {
	all := protocol.ProtocolVersions
	defer func() { protocol.ProtocolVersions = all }()
	for _, version := range []uint{protocol.ETH69, protocol.ETH70, protocol.ETH71} {
		for _, gethDials := range []bool{true, false} {
			dialler := map[bool]string{true: "geth", false: "cairn"}[gethDials]
			t.Run(fmt.Sprintf("eth %d, %s dials", version, dialler), func(t *testing.T) {
				// The one version that geth announces is the one that is spoken.
				protocol.ProtocolVersions = []uint{version}
				test(t, version, gethDials)
			})
		}
	}
}

// connect has one of the two dial the other, and checks that they speak the version.
func connect(t *testing.T, peer *geth.Node, store *cairn.Store, version uint, gethDials bool, args ...string) *cairn.Node {
	t.Helper()
	var node *cairn.Node
	if gethDials {
		node = store.Start(args...)
		peer.Dial(node.Enode)
	} else {
		node = store.Start(append(args, "--bootnodes", peer.Enode())...)
	}
	spoken, inbound := peer.Peer()
	if spoken != version || inbound == gethDials {
		t.Fatalf("geth speaks eth/%d and was dialled: %v; want eth/%d and %v", spoken, inbound, version, !gethDials)
	}
	return node
}

// startSyncing runs a geth that can be given the hash of a head to sync to.
func startSyncing(t *testing.T, genesis *core.Genesis, dialled bool) (*geth.Node, *syncer.Syncer) {
	t.Helper()
	var sync *syncer.Syncer
	var err error
	peer := geth.Start(t, geth.Config{
		Genesis: genesis, DataDir: t.TempDir(), Dialled: dialled,
		Register: func(stack *node.Node, backend *eth.Ethereum) {
			sync, err = syncer.Register(stack, backend, syncer.Config{})
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return peer, sync
}

func TestGethDownloadsAndExecutesCairnsChain(t *testing.T) {
	genesisFile, file := cairn.Generate(t, 1100)
	chains := map[string]*Chain{
		"generated": readChain(t, genesisFile, file),
		"executed":  executedChain(t, 600),
	}
	for name, chain := range chains {
		t.Run(name, func(t *testing.T) {
			store := cairn.Init(t, chain.genesisFile, chain.file)
			forEachWay(t, func(t *testing.T, version uint, gethDials bool) {
				peer, sync := startSyncing(t, chain.genesis, !gethDials)
				node := connect(t, peer, store.For(t), version, gethDials)
				head := chain.head().Hash()
				if err := sync.Sync(head); err != nil {
					t.Fatal(err)
				}
				peer.Reaches(head.Hex(), syncLimit)
				if !peer.Eth.BlockChain().HasState(chain.head().Root()) {
					t.Fatal("geth does not have the head's state")
				}
				if sessions := strings.Count(node.Log(), "Peer connected"); sessions != 1 {
					t.Fatalf("it took %d sessions", sessions)
				}
				node.Stop()
			})
		})
	}
}

func TestGethFollowsWhatCairnSealsFromTargetToTarget(t *testing.T) {
	const period, steps, each = 1, 2, 3
	genesisFile := cairn.Clique(t, 1, period, 2, uint64(time.Now().Unix()))
	store := cairn.Init(t, genesisFile)
	peer, sync := startSyncing(t, geth.ReadGenesis(t, genesisFile), false)
	node := store.Start("--enable-consensus", "--signer-key", cairn.KeyFile(t, 0))
	peer.Dial(node.Enode)
	peer.Peer()
	for step := range steps {
		if !cairn.Within(syncLimit, func() bool { return store.Head().Number >= uint64((step+1)*each) }) {
			t.Fatalf("cairn's head is %v after %v", store.Head(), syncLimit)
		}
		head := store.Head().Hash
		if err := sync.Sync(common.HexToHash(head)); err != nil {
			t.Fatal(err)
		}
		peer.Reaches(head, syncLimit)
	}
	node.Stop()
}

func TestCairnFollowsGethToATrustedHead(t *testing.T) {
	chains := map[string]*Chain{"clique": executedChain(t, 600), "merged": mergedChain(t, 300)}
	for name, chain := range chains {
		t.Run(name, func(t *testing.T) {
			forEachWay(t, func(t *testing.T, version uint, gethDials bool) {
				peer := geth.Start(t, geth.Config{Genesis: chain.genesis, DataDir: t.TempDir(), Dialled: !gethDials})
				peer.Insert(chain.blocks)
				store := cairn.Init(t, chain.genesisFile)
				head := chain.head().Hash().Hex()
				node := connect(t, peer, store, version, gethDials, "--synctarget", head, "--receipts")
				store.Reaches(head, syncLimit)
				last := uint64(len(chain.blocks))
				store.ReachesReceipts(last, syncLimit)
				checkAnswers(t, ask(t, peer.Eth.BlockChain(), node.Enode), chain.blocks)
				node.Stop()
				if !bytes.Equal(store.Blocks(1, last), geth.Encoded(t, chain.blocks)) {
					t.Fatal("cairn's blocks are not geth's")
				}
				for _, number := range []uint64{1, loudBlock, last} {
					if !bytes.Equal(store.Receipts(number), peer.Receipts(number)) {
						t.Fatalf("cairn's receipts of block %d are not geth's", number)
					}
				}
				store.Sound()
			})
		})
	}
}

func TestCairnFollowsWhatGethTakesIntoItsChain(t *testing.T) {
	// geth tells its peers of its head every 32 blocks.
	const before, after = 10, 40
	chain := executedChain(t, before+after)
	forEachWay(t, func(t *testing.T, version uint, gethDials bool) {
		peer := geth.Start(t, geth.Config{Genesis: chain.genesis, DataDir: t.TempDir(), Dialled: !gethDials})
		peer.Insert(chain.blocks[:before])
		store := cairn.Init(t, chain.genesisFile)
		node := connect(t, peer, store, version, gethDials)
		store.Reaches(chain.blocks[before-1].Hash().Hex(), syncLimit)
		peer.Insert(chain.blocks[before:])
		store.Reaches(chain.head().Hash().Hex(), syncLimit)
		node.Stop()
	})
}
