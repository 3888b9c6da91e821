// Command serve measures what serving blocks costs: cairn beside go-ethereum's and ethrex's own code, on one machine in one
// run. tests/interop/serving/run builds what it needs and starts it.
//
// All serve the same chain to the same client, in turn and several times. CPU time is what the system counted for the serving
// process; the client's is not in it. Ceilings are in the README of cairn-net; this is only side by side.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

const (
	// bodyBytes and blocks are the chain served: bodies of 60 kB that compress to 0.6, all of them in memory.
	bodyBytes, blocks = 60_000, 1_200
	// ethrexRequests is what a session of ethrex-p2p 24 is good for: it ends one that asks 500 times in a minute.
	ethrexRequests = 480
)

func main() {
	log.SetFlags(0)
	serving := flag.String("serve", "", "serve the chain in this folder with go-ethereum's code (internal)")
	database := flag.String("database", "", "with -serve: a folder for a pebble database, or none for one in memory (internal)")
	seconds := flag.Float64("seconds", 2, "how long each measurement takes, without its warm-up")
	rounds := flag.Int("rounds", 7, "how often each is measured; the medians are told")
	asJSON := flag.Bool("json", false, "print JSON")
	flag.Parse()
	if flag.NArg() > 0 || *seconds <= 0 || *rounds < 1 {
		flag.Usage()
		os.Exit(2)
	}
	if *serving != "" {
		log.Fatal(serveGeth(*serving, *database))
	}
	// Who interrupts it ends its servers too.
	interrupted, _ := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	if err := measureAll(interrupted, time.Duration(*seconds*float64(time.Second)), *rounds, *asJSON); err != nil {
		log.Fatal(err)
	}
}

func measureAll(interrupted context.Context, each time.Duration, rounds int, asJSON bool) (err error) {
	for _, variable := range []string{"CAIRN_BIN", "CAIRN_STORE_BIN", "ETHREX_BIN"} {
		if os.Getenv(variable) == "" {
			return fmt.Errorf("%s must name a binary (tests/interop/serving/run does)", variable)
		}
	}
	folder, err := os.MkdirTemp("", "cairn-serve-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	genesis, era1, datadir := filepath.Join(folder, genesisFile), filepath.Join(folder, chainFile), filepath.Join(folder, "cairn")
	for _, arguments := range [][]string{
		{"CAIRN_STORE_BIN", "generate", "--blocks", strconv.Itoa(blocks), "--txs", "40",
			"--body-bytes", strconv.Itoa(bodyBytes), "--out", era1, "--genesis", genesis},
		{"CAIRN_BIN", "init", "--datadir", datadir, genesis},
		{"CAIRN_BIN", "import", "--datadir", datadir, era1},
	} {
		if out, err := exec.CommandContext(interrupted, os.Getenv(arguments[0]), arguments[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w\n%s", arguments, err, out)
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
	var servers []*server
	defer func() {
		for _, server := range servers {
			err = errors.Join(err, server.stop())
		}
	}()
	for _, kind := range []struct {
		name     string
		requests int
		command  *exec.Cmd
	}{
		{"cairn", 0, exec.CommandContext(interrupted, os.Getenv("CAIRN_BIN"), "--datadir", datadir, "--listen-addr", "127.0.0.1", "--port", "0")},
		{"geth 1.17.5, pebble", 0, exec.CommandContext(interrupted, myself, "-serve", folder, "-database", filepath.Join(folder, "pebble"))},
		{"geth 1.17.5, memory", 0, exec.CommandContext(interrupted, myself, "-serve", folder)},
		{"ethrex-p2p 24, memory", ethrexRequests, exec.CommandContext(interrupted, os.Getenv("ETHREX_BIN"), genesis, era1)},
	} {
		server, err := start(kind.name, kind.command)
		if err != nil {
			return err
		}
		server.requests = kind.requests
		servers = append(servers, server)
	}

	var lines []line
	if !asJSON {
		titles()
	}
	for _, work := range workloads(chain) {
		measured := make([][]cost, len(servers))
		for range rounds {
			for i, server := range servers {
				one, err := server.measure(work, each)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", server.name, work.name, err)
				}
				measured[i] = append(measured[i], one)
			}
		}
		for i, server := range servers {
			told := tell(work.name, server.name, measured[i], measured[0])
			lines = append(lines, told)
			if !asJSON {
				told.row()
			}
		}
	}
	if !asJSON {
		return nil
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", "  ")
	return encoder.Encode(map[string]any{"lines": lines})
}
