// Package geth runs a whole go-ethereum node inside a test, whichever version the test's own module names.
package geth

import (
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"os"
	"sync"
	"testing"
	"time"

	"cairn/interop/common/cairn"

	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/eth"
	"github.com/ethereum/go-ethereum/eth/ethconfig"
	"github.com/ethereum/go-ethereum/log"
	"github.com/ethereum/go-ethereum/node"
	"github.com/ethereum/go-ethereum/p2p"
	"github.com/ethereum/go-ethereum/p2p/enode"
)

const (
	// cacheMiB is of each of its caches: the chains here are small, and defaults would take gigabytes.
	cacheMiB = 16
	// peerLimit is from a dial to a peer: cairn dials again after seconds, and its Status takes milliseconds.
	peerLimit = 30 * time.Second
)

// Node is a running node.
type Node struct {
	Stack *node.Node
	Eth   *eth.Ethereum

	t testing.TB
}

// Config says what differs from node to node.
type Config struct {
	// Genesis is that of its chain.
	Genesis *core.Genesis
	// DataDir is the folder it keeps its chain in: with an older one it goes on.
	DataDir string
	// Etherbase is the key it may seal with.
	Etherbase *ecdsa.PrivateKey
	// Dialled has it leave its one place for a peer to one that dials; otherwise that is for one to Dial.
	Dialled bool
	// Port is where it listens; 0: any that is free.
	Port int
	// Peers are its places for peers; 0: one.
	Peers int
	// Register adds services before the node starts.
	Register func(*node.Node, *eth.Ethereum)
}

// Start runs a node with one place for a peer, if not told otherwise, which makes it sync at once, without discovery, on the loopback interface. It
// dials nobody until Dial. It ends with the test at the latest.
func Start(t testing.TB, config Config) *Node {
	t.Helper()
	logTo(t)
	stack, err := node.New(&node.Config{
		Name:    "geth",
		Version: "interop",
		DataDir: config.DataDir,
		P2P: p2p.Config{
			ListenAddr: fmt.Sprintf("127.0.0.1:%d", config.Port), NoDiscovery: true, MaxPeers: max(config.Peers, 1),
			NoDial: config.Dialled,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	settings := ethconfig.Defaults
	settings.Genesis = config.Genesis
	settings.DatabaseCache, settings.TrieCleanCache, settings.TrieDirtyCache, settings.SnapshotCache =
		cacheMiB, cacheMiB, cacheMiB, cacheMiB
	if err := settings.SyncMode.UnmarshalText([]byte("full")); err != nil {
		t.Fatal(err)
	}
	if config.Etherbase != nil {
		settings.Miner.Etherbase = crypto.PubkeyToAddress(config.Etherbase.PublicKey)
	}
	backend, err := eth.New(stack, &settings)
	if err != nil {
		t.Fatal(err)
	}
	if config.Register != nil {
		config.Register(stack, backend)
	}
	if err := stack.Start(); err != nil {
		t.Fatal(err)
	}
	n := &Node{Stack: stack, Eth: backend, t: t}
	t.Cleanup(n.Stop)
	return n
}

// Stop ends the node.
func (n *Node) Stop() {
	if n.Stack != nil {
		_ = n.Stack.Close()
		n.Stack = nil
	}
}

// Enode is the URL to dial it by.
func (n *Node) Enode() string { return n.Stack.Server().Self().URLv4() }

// Dial has it dial a peer, again and again.
func (n *Node) Dial(url string) {
	n.t.Helper()
	peer, err := enode.ParseV4(url)
	if err != nil {
		n.t.Fatal(err)
	}
	n.Stack.Server().AddPeer(peer)
}

// Peer waits for the one peer and returns the version of eth spoken with it, and whether it was the one that dialled.
func (n *Node) Peer() (version uint, inbound bool) {
	n.t.Helper()
	found := cairn.Within(peerLimit, func() bool {
		for _, peer := range n.Stack.Server().PeersInfo() {
			// Before the end of the Status exchange it is the text "handshake".
			var info struct{ Version uint }
			text, err := json.Marshal(peer.Protocols["eth"])
			if err == nil && json.Unmarshal(text, &info) == nil {
				version, inbound = info.Version, peer.Network.Inbound
				return true
			}
		}
		return false
	})
	if !found {
		n.t.Fatalf("geth has no peer after %v", peerLimit)
	}
	return version, inbound
}

// Head is the last block that it has executed and taken into its chain.
func (n *Node) Head() cairn.Block {
	header := n.Eth.BlockChain().CurrentBlock()
	return cairn.Block{Number: header.Number.Uint64(), Hash: header.Hash().Hex()}
}

// Reaches waits until its head is the block with this hash.
func (n *Node) Reaches(hash string, limit time.Duration) {
	n.t.Helper()
	if !cairn.Within(limit, func() bool { return n.Head().Hash == hash }) {
		n.t.Fatalf("geth's head is %v and not %s after %v", n.Head(), hash, limit)
	}
}

// Insert has it execute blocks and take them into its chain.
func (n *Node) Insert(blocks []*types.Block) {
	n.t.Helper()
	if at, err := n.Eth.BlockChain().InsertChain(blocks); err != nil {
		n.t.Fatalf("block %d of %d: %v", at, len(blocks), err)
	}
}

// ReadGenesis reads a genesis file. Where it does not say when its merge is, that is never.
func ReadGenesis(t testing.TB, file string) *core.Genesis {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	genesis := new(core.Genesis)
	if err := json.Unmarshal(text, genesis); err != nil {
		t.Fatal(err)
	}
	if genesis.Config.TerminalTotalDifficulty == nil {
		genesis.Config.TerminalTotalDifficulty = new(big.Int).Exp(big.NewInt(10), big.NewInt(30), nil)
	}
	return genesis
}

// Key is one of cairn.Keys.
func Key(t testing.TB, index int) *ecdsa.PrivateKey {
	t.Helper()
	key, err := crypto.HexToECDSA(cairn.Keys[index])
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// The library has one log for all nodes of a process: it goes to the test that runs.
var current struct {
	mutex sync.Mutex
	log   *cairn.Log
}

func logTo(t testing.TB) {
	current.mutex.Lock()
	defer current.mutex.Unlock()
	if current.log == nil {
		log.SetDefault(log.NewLogger(log.NewTerminalHandlerWithLevel(gethLog{}, log.FromLegacyLevel(4), false)))
	}
	mine := new(cairn.Log)
	current.log = mine
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log of geth ends:\n%s", mine.Tail())
		}
	})
}

type gethLog struct{}

var _ io.Writer = gethLog{}

func (gethLog) Write(line []byte) (int, error) {
	current.mutex.Lock()
	defer current.mutex.Unlock()
	return current.log.Write(line)
}
