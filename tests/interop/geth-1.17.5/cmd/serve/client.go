// The client: asks one server over RLPx, so many requests in flight, and times what it answers.

package main

import (
	"crypto/ecdsa"
	"fmt"
	"net"
	"time"

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
	ethOffset = 16
	helloMsg  = 0
	discMsg   = 1
	pingMsg   = 2
	pongMsg   = 3
	patience  = 20 * time.Second
	// dialAgain is for a server whose places are still those of sessions that ended.
	dialAgain = 20 * time.Millisecond
	warmUp    = 300 * time.Millisecond
	// answerBytes is the longest answer of all: 128 bodies that nobody cut.
	answerBytes = 8 << 20
)

// session is a connection past both handshakes. Compression is done here: the connection knows of none.
type session struct {
	conn *rlpx.Conn
	next uint64
	// answer is the last one, decompressed.
	answer []byte
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
	s := &session{conn: rlpx.NewConn(tcp, node.Pubkey()), answer: make([]byte, 0, answerBytes)}
	if err := s.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if err := s.begin(key); err != nil {
		_ = tcp.Close()
		return nil, err
	}
	return s, nil
}

// begin is all that comes before the first request.
func (s *session) begin(key *ecdsa.PrivateKey) error {
	if _, err := s.conn.Handshake(key); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	hello, err := rlp.EncodeToBytes([]any{
		uint(5), "serve", []p2p.Cap{{Name: "eth", Version: eth.ETH69}}, uint(0), crypto.FromECDSAPub(&key.PublicKey)[1:],
	})
	if err != nil {
		return err
	}
	if _, err := s.conn.Write(helloMsg, hello); err != nil {
		return err
	}
	if _, err := s.read(helloMsg, false); err != nil {
		return fmt.Errorf("Hello: %w", err)
	}
	// Its own Status suits it.
	status, err := s.read(ethOffset+eth.StatusMsg, true)
	if err != nil {
		return fmt.Errorf("Status: %w", err)
	}
	_, err = s.conn.Write(ethOffset+eth.StatusMsg, status)
	return err
}

// end takes leave, so that the server need not find out by itself.
func (s *session) end() {
	clientQuitting := []byte{0xc1, 0x08}
	_, _ = s.conn.Write(discMsg, snappy.Encode(nil, clientQuitting)) // Ended is ended.
	_ = s.conn.Close()
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

// run keeps requests in flight for a while, or until so many were asked, and checks the answers to all of them.
func (s *session) run(work workload, span time.Duration, requests int) (cost, error) {
	waiting := make(map[uint64]bool, inFlight)
	ask := func() error {
		waiting[s.next] = true
		requests--
		return s.ask(work)
	}
	begun := time.Now()
	for range min(inFlight, requests) {
		if err := ask(); err != nil {
			return cost{}, err
		}
	}
	var seen cost
	for len(waiting) > 0 {
		compressed, err := s.read(ethOffset+work.want, true)
		if err != nil {
			return cost{}, err
		}
		if s.answer, err = snappy.Decode(s.answer[:cap(s.answer)], compressed); err != nil {
			return cost{}, err
		}
		id, err := work.check(s.answer)
		if err != nil {
			return cost{}, err
		}
		if !waiting[id] {
			return cost{}, fmt.Errorf("an answer to request %d, which is not in flight", id)
		}
		delete(waiting, id)
		seen.requests++
		seen.bytes += len(s.answer)
		seen.wireBytes += len(compressed)
		if requests > 0 && time.Since(begun) < span {
			if err := ask(); err != nil {
				return cost{}, err
			}
		}
	}
	seen.wall = time.Since(begun)
	return seen, nil
}
