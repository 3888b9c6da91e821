// Package cairn runs the programs of cairn for the tests with peers written in Go: their commands, a node as a child
// process with its log, and what a node's store holds.
package cairn

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// startLimit is from the start of the program to its listening: opening a store takes milliseconds.
	startLimit = 30 * time.Second
	// stopLimit is from SIGTERM to the end: the program promises well under a second; the rest is the machine's.
	stopLimit = 5 * time.Second
	// pollEvery is how often a store is looked into while something is awaited: a look costs a process of some
	// milliseconds.
	pollEvery = 100 * time.Millisecond
	// logLines of a node's log are shown where a test failed.
	logLines = 60
)

// program is the binary that an environment variable names.
func program(t testing.TB, variable string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		t.Fatalf("%s must name a binary (see tests/interop/README.md)", variable)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// run ends with what a command printed on standard output; a command that fails ends the test.
func run(t testing.TB, variable string, args ...string) []byte {
	t.Helper()
	command := exec.Command(program(t, variable), args...)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(command.Args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.Bytes()
}

// Generate makes a clique chain of empty blocks, which a client that executes accepts, and returns its genesis file and its
// block file.
func Generate(t testing.TB, blocks int) (genesisFile, chainFile string) {
	t.Helper()
	folder := t.TempDir()
	genesisFile, chainFile = filepath.Join(folder, "genesis.json"), filepath.Join(folder, "chain.rlp")
	run(t, "CAIRN_STORE_BIN", "generate", "--blocks", strconv.Itoa(blocks), "--txs", "0",
		"--out", chainFile, "--genesis", genesisFile)
	return genesisFile, chainFile
}

// NewNetwork makes a clique network and returns its folder.
func NewNetwork(t testing.TB, args ...string) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "network")
	run(t, "CAIRN_BIN", append([]string{"network", "new", "--out", folder}, args...)...)
	return folder
}

// Store is the data folder of a node.
type Store struct {
	t   testing.TB
	dir string
}

// Init makes a data folder for a genesis file and imports the files of blocks.
func Init(t testing.TB, genesisFile string, chainFiles ...string) *Store {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "cairn")
	run(t, "CAIRN_BIN", "init", "--datadir", dir, genesisFile)
	for _, file := range chainFiles {
		run(t, "CAIRN_BIN", "import", "--datadir", dir, file)
	}
	return &Store{t, dir}
}

// Block is a place in a chain.
type Block struct {
	Number uint64 `json:"number"`
	Hash   string `json:"hash"`
}

// For is the same store in a test within the test, with which its nodes end.
func (s *Store) For(t testing.TB) *Store { return &Store{t, s.dir} }

// Head is where the store's chain ends.
func (s *Store) Head() Block {
	s.t.Helper()
	var info struct{ Head Block }
	s.look(&info, "info", "--json")
	return info.Head
}

// Hash is that of a stored block.
func (s *Store) Hash(number uint64) string {
	s.t.Helper()
	var block Block
	s.look(&block, "get", strconv.FormatUint(number, 10), "header", "--json")
	return block.Hash
}

// Sound has every file and every block checked by the chain's rules.
func (s *Store) Sound() {
	s.t.Helper()
	run(s.t, "CAIRN_STORE_BIN", "verify", "--deep", "--datadir", s.dir)
}

// Blocks are the stored bytes from one block to another, in RLP, back to back.
func (s *Store) Blocks(first, last uint64) []byte {
	s.t.Helper()
	return run(s.t, "CAIRN_STORE_BIN", "dump", fmt.Sprintf("%d..%d", first, last), "--raw", "--datadir", s.dir)
}

// Receipts are the stored bytes of a block's receipts: a list in the form of eth/69, without blooms.
func (s *Store) Receipts(number uint64) []byte {
	s.t.Helper()
	return run(s.t, "CAIRN_STORE_BIN", "get", strconv.FormatUint(number, 10), "receipts", "--raw", "--datadir", s.dir)
}

// ReachesReceipts waits until the store has the receipts of all blocks from 1 to this one.
func (s *Store) ReachesReceipts(number uint64, limit time.Duration) {
	s.t.Helper()
	var gaps struct{ Receipts struct{ There [][2]uint64 } }
	complete := func() bool {
		s.look(&gaps, "gaps", "--json")
		there := gaps.Receipts.There
		return len(there) > 0 && there[0][0] <= 1 && there[0][1] >= number
	}
	if !Within(limit, complete) {
		s.t.Fatalf("cairn has the receipts of %v and not of all up to %d after %v", gaps.Receipts.There, number, limit)
	}
}

// Ask calls a method of the running node over its control socket, and returns its result.
func (s *Store) Ask(method string, params ...any) json.RawMessage {
	s.t.Helper()
	socket, err := net.Dial("unix", filepath.Join(s.dir, "cairn.ipc"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer socket.Close()
	request := map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
	if err := json.NewEncoder(socket).Encode(request); err != nil {
		s.t.Fatal(err)
	}
	var answer struct{ Result, Error json.RawMessage }
	if err := json.NewDecoder(socket).Decode(&answer); err != nil || answer.Error != nil {
		s.t.Fatalf("%s %v: %s (%v)", method, params, answer.Error, err)
	}
	return answer.Result
}

func (s *Store) look(into any, args ...string) {
	s.t.Helper()
	out := run(s.t, "CAIRN_STORE_BIN", append(args, "--datadir", s.dir)...)
	if err := json.Unmarshal(out, into); err != nil {
		s.t.Fatalf("cairn-store %v: %v in %s", args, err, out)
	}
}

// Reaches waits until the store's head is the block with this hash.
func (s *Store) Reaches(hash string, limit time.Duration) {
	s.t.Helper()
	if !Within(limit, func() bool { return s.Head().Hash == hash }) {
		head := s.Head()
		s.t.Fatalf("cairn's head is %d %s and not %s after %v", head.Number, head.Hash, hash, limit)
	}
}

// Within asks again and again until the answer is yes, and answers no when the time is over.
func Within(limit time.Duration, ask func() bool) bool {
	for deadline := time.Now().Add(limit); ; time.Sleep(pollEvery) {
		if ask() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

// Node is a running node.
type Node struct {
	// Enode is the URL to dial it by.
	Enode string

	t       testing.TB
	command *exec.Cmd
	ended   chan error
	log     *Log
}

var enodeInLog = regexp.MustCompile(`enode://[0-9a-f]{128}@[^\s"?,]*`)

// Start runs a node on a store, on a port of the loopback interface that was free a moment ago, and waits until it listens.
// It ends with the test at the latest.
func (s *Store) Start(args ...string) *Node {
	s.t.Helper()
	return s.StartAt(FreePort(s.t), args...)
}

// StartAt is Start on a port of one's own choice: a node that is started again has the enode URL that others dial.
func (s *Store) StartAt(number int, args ...string) *Node {
	s.t.Helper()
	port := strconv.Itoa(number)
	all := append([]string{"--datadir", s.dir, "--listen-addr", "127.0.0.1", "--port", port, "--verbosity", "4"}, args...)
	node := &Node{t: s.t, command: exec.Command(program(s.t, "CAIRN_BIN"), all...), ended: make(chan error, 1), log: new(Log)}
	node.command.Stdout, node.command.Stderr = node.log, node.log
	// A test that runs out of time ends without its clean-up: the node must not outlive it.
	node.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := node.command.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() { node.ended <- node.command.Wait() }()
	s.t.Cleanup(func() {
		_ = node.command.Process.Kill()
		if s.t.Failed() {
			s.t.Logf("the log of cairn on port %s ends:\n%s", port, node.log.Tail())
		}
	})
	listening := func() bool {
		select {
		case err := <-node.ended:
			s.t.Fatalf("cairn ended at its start: %v\n%s", err, node.log.Tail())
		default:
		}
		for _, url := range enodeInLog.FindAllString(node.log.String(), -1) {
			// The log also names the nodes it dials: ours is the one with our port.
			if id, ok := strings.CutSuffix(url, ":"+port); ok {
				node.Enode = id[:strings.Index(id, "@")] + "@127.0.0.1:" + port
			}
		}
		return node.Enode != ""
	}
	if !Within(startLimit, listening) {
		s.t.Fatalf("cairn does not listen after %v", startLimit)
	}
	return node
}

// Stop asks the node to end and takes nothing but exit status 0 in time.
func (n *Node) Stop() {
	n.t.Helper()
	if err := n.command.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		n.t.Fatal(err)
	}
	select {
	case err := <-n.ended:
		if err != nil {
			n.t.Fatalf("cairn ended with %v", err)
		}
	case <-time.After(stopLimit):
		n.t.Fatalf("cairn runs on %v after SIGTERM", stopLimit)
	}
}

// Kill ends the node as a power loss would, but for what the system has yet to write.
func (n *Node) Kill() {
	n.t.Helper()
	if err := n.command.Process.Kill(); err != nil {
		n.t.Fatal(err)
	}
	<-n.ended
}

// Log is what the node has written so far.
func (n *Node) Log() string { return n.log.String() }

// Log takes what a child writes and may be read meanwhile.
type Log struct {
	mutex sync.Mutex
	text  bytes.Buffer
}

func (l *Log) Write(bytes []byte) (int, error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.text.Write(bytes)
}

func (l *Log) String() string {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.text.String()
}

// Tail is the end of it.
func (l *Log) Tail() string {
	lines := strings.Split(l.String(), "\n")
	return strings.Join(lines[max(0, len(lines)-logLines):], "\n")
}

// FreePort is a TCP port of the loopback interface that was free a moment ago.
func FreePort(t testing.TB) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}
