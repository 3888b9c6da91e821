// Command serve measures what serving blocks costs: cairn beside go-ethereum's own wire code, on one machine in one run.
//
//	CAIRN_BIN=... CAIRN_STORE_BIN=... go run ./cmd/serve
//
// Both serve the same chain to the same client, which keeps 16 requests in flight and decompresses nothing; their CPU time
// is what the system counted for the serving process. Ceilings are in the README of cairn-net; this is only side by side.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/p2p/enode"
)

const (
	// bodyBytes and blocks are the chain served: bodies of 60 kB that compress to 0.6, all of them in memory.
	bodyBytes, blocks = 60_000, 1_200
	// rounds are taken in turn by both, and the median of each is told.
	rounds = 5
)

func main() {
	log.SetFlags(0)
	serving := flag.String("serve", "", "serve the chain in this folder with go-ethereum's code (internal)")
	seconds := flag.Float64("seconds", 3, "how long each measurement takes")
	flag.Parse()
	if *serving != "" {
		serveGeth(*serving)
		return
	}
	if err := measureAll(time.Duration(*seconds * float64(time.Second))); err != nil {
		log.Fatal(err)
	}
}

// server is a serving process.
type server struct {
	name    string
	command *exec.Cmd
	node    *enode.Node
}

func measureAll(each time.Duration) error {
	for _, variable := range []string{"CAIRN_BIN", "CAIRN_STORE_BIN"} {
		if os.Getenv(variable) == "" {
			return fmt.Errorf("%s must name a binary (see tests/interop/README.md)", variable)
		}
	}
	folder, err := os.MkdirTemp("", "cairn-serve-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	chainFile, genesisFile := filepath.Join(folder, "chain.rlp"), filepath.Join(folder, "genesis.json")
	datadir := filepath.Join(folder, "cairn")
	for _, arguments := range [][]string{
		{"CAIRN_STORE_BIN", "generate", "--blocks", strconv.Itoa(blocks), "--txs", "40",
			"--body-bytes", strconv.Itoa(bodyBytes), "--out", chainFile, "--genesis", genesisFile},
		{"CAIRN_BIN", "init", "--datadir", datadir, genesisFile},
		{"CAIRN_BIN", "import", "--datadir", datadir, chainFile},
	} {
		out, err := exec.Command(os.Getenv(arguments[0]), arguments[1:]...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%v: %w\n%s", arguments, err, out)
		}
		if arguments[1] == "generate" {
			fmt.Printf("%s\n", out)
		}
	}
	chain, err := readChain(folder)
	if err != nil {
		return err
	}
	myself, err := os.Executable()
	if err != nil {
		return err
	}
	cairn, err := start("cairn", exec.Command(os.Getenv("CAIRN_BIN"), "--datadir", datadir, "--listen-addr", "127.0.0.1", "--port", "0"))
	if err != nil {
		return err
	}
	defer cairn.stop()
	geth, err := start("go-ethereum 1.17.5", exec.Command(myself, "-serve", folder))
	if err != nil {
		return err
	}
	defer geth.stop()

	fmt.Printf("%-22s %-20s %12s %10s %12s %14s\n", "asked for", "of", "requests/s", "MB/s", "CPU s/GB", "CPU us/request")
	for _, work := range workloads(chain) {
		measured := map[*server][]cost{}
		for range rounds {
			for _, server := range []*server{cairn, geth} {
				one, err := server.measure(work, each)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", server.name, work.name, err)
				}
				measured[server] = append(measured[server], one)
			}
		}
		for _, server := range []*server{cairn, geth} {
			c := median(measured[server])
			fmt.Printf("%-22s %-20s %12.0f %10.0f %12.2f %14.1f\n", work.name, server.name, c.requestsPerS(), c.mbPerS(), c.cpuSPerGB(), c.cpuUsPerRequest())
		}
	}
	return nil
}

var enodeInOutput = regexp.MustCompile(`enode://[0-9a-f]{128}@[0-9.]+:[0-9]+`)

// start runs a serving process and waits until it says where it listens.
func start(name string, command *exec.Cmd) (*server, error) {
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	command.Stdout, command.Stderr = writer, writer
	if err := command.Start(); err != nil {
		return nil, err
	}
	writer.Close()
	var seen strings.Builder
	for lines := bufio.NewScanner(reader); lines.Scan(); {
		fmt.Fprintln(&seen, lines.Text())
		if url := enodeInOutput.FindString(lines.Text()); url != "" {
			// What else it says is of no interest, but it must be able to say it.
			go func() {
				for lines.Scan() {
				}
			}()
			return &server{name, command, enode.MustParseV4(url)}, nil
		}
	}
	return nil, fmt.Errorf("%s ended at its start:\n%s", name, seen.String())
}

func (s *server) stop() {
	_ = s.command.Process.Kill()
	_ = s.command.Wait()
}

// cpu is the time that the system has counted for the process, in itself and for it, in hundredths of a second.
func (s *server) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.command.Process.Pid))
	if err != nil {
		return 0, err
	}
	// After the name in brackets: state is the first, utime the 12th, stime the 13th.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	var ticks int64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}
