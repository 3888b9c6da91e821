package main

import (
	"crypto/ecdsa"
	"fmt"
	"net"
	"slices"
	"sort"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/eth/protocols/eth"
	"github.com/ethereum/go-ethereum/p2p"
	"github.com/ethereum/go-ethereum/p2p/enode"
	"github.com/ethereum/go-ethereum/p2p/rlpx"
	"github.com/ethereum/go-ethereum/rlp"
	"github.com/golang/snappy"
)

const (
	// inFlight requests are unanswered at any time.
	inFlight = 16
	// ethOffset is where the messages of the one capability begin.
	ethOffset  = 16
	helloMsg   = 0
	discMsg    = 1
	pingMsg    = 2
	pongMsg    = 3
	patience   = 20 * time.Second
	warmUp     = 300 * time.Millisecond
	bodiesEach = 128
)

// workload is one kind of request, again and again.
type workload struct {
	name      string
	ask, want uint64
	// request makes the nth request.
	request func(n uint64) any
}

func workloads(chain *chain) []workload {
	hashes := chain.hashes()
	from := func(n uint64) int { return int(n*37) % (len(hashes) - bodiesEach) }
	headers := func(amount uint64) func(uint64) any {
		return func(n uint64) any {
			first := 1 + n%(uint64(len(hashes))-min(amount, uint64(len(hashes))-1))
			return &eth.GetBlockHeadersPacket{RequestId: n, GetBlockHeadersRequest: &eth.GetBlockHeadersRequest{
				Origin: eth.HashOrNumber{Number: first}, Amount: amount,
			}}
		}
	}
	return []workload{
		{"128 bodies (2 MiB)", eth.GetBlockBodiesMsg, eth.BlockBodiesMsg, func(n uint64) any {
			return &eth.GetBlockBodiesPacket{RequestId: n, GetBlockBodiesRequest: hashes[from(n) : from(n)+bodiesEach]}
		}},
		{"1,024 headers", eth.GetBlockHeadersMsg, eth.BlockHeadersMsg, headers(1024)},
		{"1 header", eth.GetBlockHeadersMsg, eth.BlockHeadersMsg, headers(1)},
	}
}

// cost is what a measurement saw.
type cost struct {
	requests, bytes int
	wall, cpu       time.Duration
}

func (c cost) requestsPerS() float64    { return float64(c.requests) / c.wall.Seconds() }
func (c cost) mbPerS() float64          { return float64(c.bytes) / 1e6 / c.wall.Seconds() }
func (c cost) cpuSPerGB() float64       { return c.cpu.Seconds() / (float64(c.bytes) / 1e9) }
func (c cost) cpuUsPerRequest() float64 { return float64(c.cpu.Microseconds()) / float64(c.requests) }

func median(costs []cost) cost {
	sorted := slices.Clone(costs)
	sort.Slice(sorted, func(i, j int) bool { return sorted[i].cpuSPerGB() < sorted[j].cpuSPerGB() })
	return sorted[len(sorted)/2]
}

// measure asks for a while; bytes are those of the answers before they were compressed.
func (s *server) measure(work workload, span time.Duration) (cost, error) {
	session, err := dial(s.node)
	if err != nil {
		return cost{}, err
	}
	defer session.conn.Close()
	if _, err := session.run(work, warmUp); err != nil {
		return cost{}, err
	}
	before, err := s.cpu()
	if err != nil {
		return cost{}, err
	}
	seen, err := session.run(work, span)
	if err != nil {
		return cost{}, err
	}
	after, err := s.cpu()
	seen.cpu = after - before
	return seen, err
}

// session is a connection past both handshakes. Compression is done here and not by the connection, which would
// decompress every answer.
type session struct {
	conn *rlpx.Conn
	next uint64
}

func dial(node *enode.Node) (*session, error) {
	var key *ecdsa.PrivateKey
	var err error
	if key, err = crypto.GenerateKey(); err != nil {
		return nil, err
	}
	address, _ := node.TCPEndpoint()
	tcp, err := net.DialTimeout("tcp", address.String(), patience)
	if err != nil {
		return nil, err
	}
	s := &session{conn: rlpx.NewConn(tcp, node.Pubkey())}
	if err := s.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if _, err := s.conn.Handshake(key); err != nil {
		return nil, fmt.Errorf("handshake: %w", err)
	}
	hello, err := rlp.EncodeToBytes([]any{
		uint(5), "serve", []p2p.Cap{{Name: "eth", Version: eth.ETH69}}, uint(0), crypto.FromECDSAPub(&key.PublicKey)[1:],
	})
	if err != nil {
		return nil, err
	}
	if _, err := s.conn.Write(helloMsg, hello); err != nil {
		return nil, err
	}
	if _, err := s.read(helloMsg, false); err != nil {
		return nil, fmt.Errorf("Hello: %w", err)
	}
	// Its own Status suits it.
	status, err := s.read(ethOffset+eth.StatusMsg, true)
	if err != nil {
		return nil, fmt.Errorf("Status: %w", err)
	}
	_, err = s.conn.Write(ethOffset+eth.StatusMsg, status)
	return s, err
}

// read returns the next message of a kind as it came, compressed after the Hellos. What else comes is passed over.
func (s *session) read(want uint64, compressed bool) ([]byte, error) {
	for {
		if err := s.conn.SetDeadline(time.Now().Add(patience)); err != nil {
			return nil, err
		}
		code, data, _, err := s.conn.Read()
		switch {
		case err != nil:
			return nil, err
		case code == want:
			return data, nil
		case code == discMsg:
			return nil, fmt.Errorf("disconnected: %x", data)
		case code == pingMsg && compressed:
			if _, err := s.conn.Write(pongMsg, snappy.Encode(nil, []byte{0xc0})); err != nil {
				return nil, err
			}
		}
	}
}

func (s *session) ask(work workload) error {
	payload, err := rlp.EncodeToBytes(work.request(s.next))
	if err != nil {
		return err
	}
	s.next++
	_, err = s.conn.Write(ethOffset+work.ask, snappy.Encode(nil, payload))
	return err
}

// run keeps requests in flight for a while, and takes the answers to all of them.
func (s *session) run(work workload, span time.Duration) (cost, error) {
	for range inFlight {
		if err := s.ask(work); err != nil {
			return cost{}, err
		}
	}
	var seen cost
	begun := time.Now()
	for waiting := inFlight; waiting > 0; {
		answer, err := s.read(ethOffset+work.want, true)
		if err != nil {
			return cost{}, err
		}
		bytes, err := snappy.DecodedLen(answer)
		if err != nil {
			return cost{}, err
		}
		seen.requests++
		seen.bytes += bytes
		if time.Since(begun) < span {
			err = s.ask(work)
		} else {
			waiting--
		}
		if err != nil {
			return cost{}, err
		}
	}
	seen.wall = time.Since(begun)
	return seen, nil
}

func (c *chain) hashes() []common.Hash {
	hashes := make([]common.Hash, len(c.blocks))
	for i, block := range c.blocks {
		hashes[i] = block.Hash()
	}
	return hashes
}
