// The serving processes: started, found, measured by what the system counts of them, ended.

package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/p2p/enode"
	"golang.org/x/sys/unix"
)

// server is a serving process.
type server struct {
	name    string
	command *exec.Cmd
	node    *enode.Node
	// requests are those that one session may ask; 0 is any number.
	requests int
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
			return &server{name: name, command: command, node: enode.MustParseV4(url)}, nil
		}
	}
	return nil, fmt.Errorf("%s ended at its start: %w\n%s", name, command.Wait(), seen.String())
}

// stop ends the process, which must not have ended by itself.
func (s *server) stop() error {
	if err := s.command.Process.Kill(); err != nil {
		return fmt.Errorf("%s ended by itself: %w", s.name, err)
	}
	_ = s.command.Wait() // It says that we killed it.
	return nil
}

// measure asks for a while, in as many sessions as that takes. A session is begun before the clocks are read.
func (s *server) measure(work workload, span time.Duration) (cost, error) {
	var seen cost
	warm := false
	for seen.wall < span {
		one, err := s.measureSession(work, span-seen.wall, !warm)
		if err != nil {
			return cost{}, err
		}
		warm = true
		seen.requests += one.requests
		seen.bytes += one.bytes
		seen.wireBytes += one.wireBytes
		seen.wall += one.wall
		seen.cpu += one.cpu
		seen.clientCPU += one.clientCPU
	}
	var err error
	seen.anonBytes, err = s.anonBytes()
	return seen, err
}

// dial begins a session, again where the server has no place for one yet.
func (s *server) dial() (*session, error) {
	for begun := time.Now(); ; time.Sleep(dialAgain) {
		session, err := dial(s.node)
		if err == nil || time.Since(begun) > patience {
			return session, err
		}
	}
}

func (s *server) measureSession(work workload, span time.Duration, warmFirst bool) (cost, error) {
	session, err := s.dial()
	if err != nil {
		return cost{}, err
	}
	defer session.end()
	left := s.requests
	if left == 0 {
		left = int(^uint(0) >> 1)
	}
	if warmFirst {
		warm, err := session.run(work, warmUp, left/2)
		if err != nil {
			return cost{}, fmt.Errorf("warming up: %w", err)
		}
		left -= warm.requests
	}
	cpu, clientCPU, err := s.clocks()
	if err != nil {
		return cost{}, err
	}
	seen, err := session.run(work, span, left)
	if err != nil {
		return cost{}, err
	}
	cpuAfter, clientAfter, err := s.clocks()
	seen.cpu, seen.clientCPU = cpuAfter-cpu, clientAfter-clientCPU
	return seen, err
}

// clocks are the CPU times of the server and of this process, in user code and in the kernel, of all threads.
func (s *server) clocks() (server, client time.Duration, err error) {
	// As clock_getcpuclockid(3) makes it: the process's id inverted, above the three bits that ask for the scheduler's count.
	const schedulerClock = 2
	for _, clock := range []struct {
		id   int32
		into *time.Duration
	}{{^int32(s.command.Process.Pid)<<3 | schedulerClock, &server}, {unix.CLOCK_PROCESS_CPUTIME_ID, &client}} {
		var now unix.Timespec
		if err := unix.ClockGettime(clock.id, &now); err != nil {
			return 0, 0, fmt.Errorf("the CPU time of %s: %w", s.name, err)
		}
		*clock.into = time.Duration(now.Nano())
	}
	return server, client, nil
}

// anonBytes is the process's resident memory that is not of files.
func (s *server) anonBytes() (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.command.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kib, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")))
			return kib * 1024, err
		}
	}
	return 0, fmt.Errorf("the system does not say the memory of %s", s.name)
}
