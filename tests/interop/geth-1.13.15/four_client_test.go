//go:build four

package interop

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cairn/interop/common/cairn"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/p2p/enode"
)

const (
	clientKeyKeeper = "../ethereumjs-client/lib/keep-node-key.js"
	clientProgram   = "../ethereumjs-client/node_modules/@ethereumjs/client/dist/esm/bin/cli.js"
	// clientStart: loading its modules alone takes seconds of one core.
	clientStart = 120 * time.Second
	// clientLook is how often its head is asked for, and so how well it is known when it had a block.
	clientLook = 100 * time.Millisecond
	// lagLimit is how long it may be behind.
	lagLimit = 4 * time.Second
	// returnLimit is for it to catch up after a start: it looks for a peer every five seconds.
	returnLimit = 30 * time.Second
)

// client is @ethereumjs/client as a signer, a child process.
type client struct {
	t       *testing.T
	genesis string
	keyFile string
	dir     string
	port    int
	rpcPort int
	// enode is what the others dial it by: it dials nobody whom it has not heard over discv4.
	enode string
	// heads are those it was asked for.
	heads *seen

	command *exec.Cmd
	log     *cairn.Log
	quit    chan struct{}

	mutex  sync.Mutex
	latest cairn.Block
	known  bool
}

func newClient(t *testing.T, genesis, keyFile string) *client {
	t.Helper()
	program, err := filepath.Abs(clientProgram)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("@ethereumjs/client is not installed (npm ci --ignore-scripts in tests/interop/ethereumjs-client): %v", err)
	}
	c := &client{
		t: t, genesis: genesis, keyFile: keyFile, dir: t.TempDir(), port: cairn.FreePort(t), rpcPort: cairn.FreePort(t),
		heads: new(seen), log: new(cairn.Log),
	}
	if err := os.Mkdir(filepath.Join(c.dir, "genesis"), 0o755); err != nil {
		t.Fatal(err)
	}
	// It is dialled again after a restart only if it has the same key then.
	key, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	c.enode = enode.NewV4(&key.PublicKey, net.IPv4(127, 0, 0, 1), c.port, c.port).URLv4()
	keeper := exec.Command("node", clientKeyKeeper, filepath.Join(c.dir, "genesis"), hex.EncodeToString(crypto.FromECDSA(key)))
	if out, err := keeper.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", clientKeyKeeper, err, out)
	}
	t.Cleanup(func() {
		if c.command != nil {
			c.kill()
		}
		if t.Failed() {
			t.Logf("the log of @ethereumjs/client ends:\n%s", c.log.Tail())
		}
	})
	return c
}

func (c *client) start() {
	program, _ := filepath.Abs(clientProgram)
	// Where it writes its enode once it listens; the folder is named after the genesis file.
	enodeFile := filepath.Join(c.dir, "genesis", "rlpx")
	_ = os.Remove(enodeFile)
	c.command = exec.Command("node", program, "--gethGenesis="+c.genesis, "--dataDir="+c.dir, fmt.Sprintf("--port=%d", c.port),
		fmt.Sprintf("--rpcPort=%d", c.rpcPort), "--rpc", "--rpcAddr=127.0.0.1", "--discDns=false", "--discV4=false",
		"--extIP=127.0.0.1", "--no-logFile", "--mine", "--unlock="+c.keyFile)
	c.command.Dir, c.command.Stdout, c.command.Stderr = c.dir, c.log, c.log
	c.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.command.Start(); err != nil {
		c.t.Fatal(err)
	}
	listens := func() bool {
		text, err := os.ReadFile(enodeFile)
		if err != nil || len(text) == 0 {
			return false
		}
		if id, _, _ := strings.Cut(c.enode, "@"); !strings.HasPrefix(string(text), id) {
			c.t.Fatalf("@ethereumjs/client is %s and not %s", text, c.enode)
		}
		_, err = c.ask()
		return err == nil
	}
	if !cairn.Within(clientStart, listens) {
		c.t.Fatalf("@ethereumjs/client does not listen after %v:\n%s", clientStart, c.log.Tail())
	}
	quit := make(chan struct{})
	c.quit = quit
	go func() {
		last := ""
		for {
			select {
			case <-quit:
				return
			case <-time.After(clientLook):
			}
			block, err := c.ask()
			if err != nil {
				continue
			}
			if block.Hash != last {
				c.heads.add(block.Hash, time.Now())
				last = block.Hash
			}
			c.mutex.Lock()
			c.latest, c.known = block, true
			c.mutex.Unlock()
		}
	}()
}

func (c *client) kill() {
	if c.quit != nil {
		close(c.quit)
		c.quit = nil
	}
	_ = c.command.Process.Kill()
	_ = c.command.Wait()
	c.command = nil
	c.mutex.Lock()
	c.known = false
	c.mutex.Unlock()
}

// forget removes its chain, and not its key.
func (c *client) forget() {
	for _, name := range []string{"chain", "meta", "state"} {
		if err := os.RemoveAll(filepath.Join(c.dir, "genesis", name)); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *client) head() (cairn.Block, bool) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.latest, c.known
}

// ask is for its newest block.
func (c *client) ask() (cairn.Block, error) {
	body := `{"jsonrpc":"2.0","id":1,"method":"eth_getBlockByNumber","params":["latest",false]}`
	request, err := http.NewRequest(http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d", c.rpcPort), bytes.NewReader([]byte(body)))
	if err != nil {
		return cairn.Block{}, err
	}
	request.Header.Set("content-type", "application/json")
	// Its server closes an idle connection just when the next request may be on its way.
	request.Close = true
	answer, err := (&http.Client{Timeout: 5 * time.Second}).Do(request)
	if err != nil {
		return cairn.Block{}, err
	}
	defer answer.Body.Close()
	var said struct {
		Result struct{ Number, Hash string }
	}
	if err := json.NewDecoder(answer.Body).Decode(&said); err != nil {
		return cairn.Block{}, err
	}
	var number uint64
	if _, err := fmt.Sscanf(said.Result.Number, "0x%x", &number); err != nil {
		return cairn.Block{}, err
	}
	return cairn.Block{Number: number, Hash: said.Result.Hash}, nil
}
