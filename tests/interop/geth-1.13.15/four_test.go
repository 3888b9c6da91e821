//go:build four

package interop

import (
	"crypto/ecdsa"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"cairn/interop/common/cairn"
	"cairn/interop/common/geth"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/crypto"
)

const (
	// gateBlocks are some three minutes of the network, most of which go for bringing signers back; FOUR_BLOCKS asks for more.
	gateBlocks = 60
	// without is how many blocks the other three seal before the one that was killed is started again ...
	without = 6
	// ... and how long they are waited for: should a second one hang meanwhile, only the first one's return helps.
	withoutLimit = 30 * time.Second
	// pauseLimit is for the network to go on, whoever was killed, on a busy machine.
	pauseLimit = 90 * time.Second
	// apart is how far heads may be from each other in a network that is well.
	apart = 2
	// reserve is kept of the test's time for one head to all, and the account.
	reserve = 2 * time.Minute
)

// signer is one of the four: what it seals as, and what was seen of it.
type signer struct {
	name    string
	key     *ecdsa.PrivateKey
	keyFile string
	address common.Address

	start func()
	kill  func()
	// seal and stopSealing are geth's alone.
	seal, stopSealing func()
	// head is that of a signer that is up.
	head func() (cairn.Block, bool)

	runs []run
	// paused are the times for which it was up and told to seal nothing.
	paused []run
}

// run is from a signer's being up to its being killed; the last has no end.
type run struct{ from, to time.Time }

func (r run) has(at time.Time) bool { return !at.Before(r.from) && (r.to.IsZero() || at.Before(r.to)) }

func (s *signer) goesUp() {
	s.start()
	s.runs = append(s.runs, run{from: time.Now()})
}

func (s *signer) goesDown() {
	s.runs[len(s.runs)-1].to = time.Now()
	s.kill()
}

func (s *signer) pause() {
	s.paused = append(s.paused, run{from: time.Now()})
	s.stopSealing()
}

func (s *signer) goOn() {
	s.paused[len(s.paused)-1].to = time.Now()
	s.seal()
}

func (s *signer) isUp() bool { return len(s.runs) > 0 && s.runs[len(s.runs)-1].to.IsZero() }

// Two cairns, geth and @ethereumjs/client seal one chain in turn; each is killed once and comes back.
func TestFourSignersOfThreeKindsSealInTurn(t *testing.T) {
	blocks := uint64(gateBlocks)
	if asked := os.Getenv("FOUR_BLOCKS"); asked != "" {
		number, err := strconv.ParseUint(asked, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		blocks = number
	}
	folder := cairn.NewNetwork(t, "--raw-keys", "--signers", "4", "--period", "1")
	genesisFile := filepath.Join(folder, "genesis.json")
	all := make([]*signer, 4)
	for i, name := range []string{"cairn 1", "cairn 2", "geth", "ethereumjs"} {
		file := filepath.Join(folder, "signer"+strconv.Itoa(i+1), "signer.key")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		key, err := crypto.HexToECDSA(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		all[i] = &signer{name: name, key: key, keyFile: file, address: crypto.PubkeyToAddress(key.PublicKey)}
	}
	one, two, g, js := all[0], all[1], all[2], all[3]

	client := newClient(t, genesisFile, js.keyFile)
	js.start, js.kill, js.head = client.start, client.kill, client.head

	var peer *geth.Node
	gethHeads := new(seen)
	config := geth.Config{
		Genesis: geth.ReadGenesis(t, genesisFile), DataDir: filepath.Join(t.TempDir(), "geth"), Etherbase: g.key,
		Port: cairn.FreePort(t), Peers: 3,
	}
	g.start = func() {
		peer = geth.Start(t, config)
		heads := make(chan core.ChainHeadEvent, 64)
		subscription := peer.Eth.BlockChain().SubscribeChainHeadEvent(heads)
		go func() {
			for {
				select {
				case head := <-heads:
					gethHeads.add(head.Block.Hash().Hex(), time.Now())
				case <-subscription.Err():
					return
				}
			}
		}()
		mineWith(peer, g.key)
		peer.Dial(client.enode)
	}
	g.kill = func() { peer.Stop() }
	g.seal, g.stopSealing = func() { mineWith(peer, g.key) }, func() { peer.Eth.StopMining() }
	g.head = func() (cairn.Block, bool) { return peer.Head(), true }

	// All come to know each other: the cairns dial the others, the second one the first, and geth the client, and again when they come back.
	g.goesUp()
	gethEnode := peer.Enode()
	stores, logs := []*cairn.Store{}, [2][]*cairn.Node{}
	for i, s := range []*signer{one, two} {
		store, port := cairn.Init(t, genesisFile), cairn.FreePort(t)
		stores = append(stores, store)
		s.start = func() {
			bootnodes := []string{gethEnode, client.enode}
			if i == 1 {
				bootnodes = append(bootnodes, logs[0][0].Enode)
			}
			node := store.StartAt(port, "--enable-consensus", "--signer-key", s.keyFile, "--bootnodes", strings.Join(bootnodes, ","))
			logs[i] = append(logs[i], node)
		}
		s.kill = func() { logs[i][len(logs[i])-1].Kill() }
		s.head = func() (cairn.Block, bool) {
			var head cairn.Block
			err := json.Unmarshal(store.Ask("clique_getSnapshot"), &head)
			return head, err == nil
		}
	}
	net := &four{t: t, all: all, g: g, js: js, forget: client.forget}
	one.goesUp()
	// Two are no majority: it takes what there is, and does not seal a first block alone, of which it would not be talked out.
	net.returns()
	two.goesUp()
	net.wait("all seal", func() bool { return net.top() >= 4 && net.together() })
	// Each is away once, at even distances.
	for i, s := range []*signer{one, js, g, two} {
		at := blocks * uint64(i+1) / 5
		net.wait("the time to kill "+s.name, func() bool { return net.top() >= at && net.together() })
		if net.isLate() {
			t.Errorf("there was no time to kill %s", s.name)
			break
		}
		before := net.top()
		t.Logf("at block %d: %s is killed", before, s.name)
		s.goesDown()
		killed := time.Now()
		net.wait("three of four go on", func() bool {
			return net.top() >= before+without || time.Since(killed) > withoutLimit
		})
		t.Logf("at block %d, after %v: %s is started again", net.top(), time.Since(killed).Round(time.Millisecond), s.name)
		started := time.Now()
		if s == js {
			net.returns()
		} else {
			s.goesUp()
		}
		net.wait(s.name+" is back", net.together)
		t.Logf("at block %d, after %v: %s has caught up", net.top(), time.Since(started).Round(time.Millisecond), s.name)
	}
	net.wait("the end", func() bool { return net.top() >= blocks })
	last := net.oneHead()
	if last.Number < blocks {
		t.Errorf("there was time for %d blocks of %d", last.Number, blocks)
	}
	peer.Eth.StopMining()

	// What they agreed on is one chain to all of them.
	for i, store := range stores {
		if hash := store.Hash(last.Number); hash != last.Hash {
			t.Errorf("cairn %d has %s as block %d, and it was %s", i+1, hash, last.Number, last.Hash)
		}
	}
	chain := peer.Eth.BlockChain()
	account := newAccount(t, all, chain, last.Number)
	account.saw(g, gethHeads)
	account.saw(js, client.heads)
	for i, s := range []*signer{one, two} {
		account.reads(s, logs[i])
	}
	account.report()
	t.Logf("ethereumjs had to start anew %d times, having lost the chain", net.restarts)
}
