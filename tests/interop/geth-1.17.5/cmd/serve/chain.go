// The chain that all serve: read from its era1 file, each header and body as it must be answered.

package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"os"
	"path/filepath"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/golang/snappy"
)

const (
	genesisFile, chainFile = "genesis.json", "chain.era1"

	// e2store: type (2 bytes), length (4), zero (2), data; little-endian.
	entryHeaderBytes       = 8
	headerEntry, bodyEntry = 3, 4
)

// items are RLP items that lie end to end, as an answer has them.
type items struct {
	bytes []byte
	ends  []int
}

func (i *items) add(item []byte) {
	i.bytes = append(i.bytes, item...)
	i.ends = append(i.ends, len(i.bytes))
}

// from is an amount of items from the nth on.
func (i *items) from(n, amount int) []byte {
	begin := 0
	if n > 0 {
		begin = i.ends[n-1]
	}
	return i.bytes[begin:i.ends[n+amount-1]]
}

// chain is the generated chain, with the genesis block: block n is the nth of each.
type chain struct {
	genesis         *core.Genesis
	hashes          []common.Hash
	headers, bodies items
}

func readChain(folder string) (*chain, error) {
	text, err := os.ReadFile(filepath.Join(folder, genesisFile))
	if err != nil {
		return nil, err
	}
	c := &chain{genesis: new(core.Genesis)}
	if err := json.Unmarshal(text, c.genesis); err != nil {
		return nil, err
	}
	// Its merge never comes.
	c.genesis.Config.TerminalTotalDifficulty = new(big.Int).Exp(big.NewInt(10), big.NewInt(30), nil)
	file, err := os.ReadFile(filepath.Join(folder, chainFile))
	if err != nil {
		return nil, err
	}
	for len(file) > 0 {
		kind, length := binary.LittleEndian.Uint16(file), int(binary.LittleEndian.Uint32(file[2:]))
		data := file[entryHeaderBytes : entryHeaderBytes+length]
		file = file[entryHeaderBytes+length:]
		if kind != headerEntry && kind != bodyEntry {
			continue
		}
		item, err := io.ReadAll(snappy.NewReader(bytes.NewReader(data)))
		if err != nil {
			return nil, err
		}
		if kind == bodyEntry {
			c.bodies.add(item)
		} else {
			c.headers.add(item)
			c.hashes = append(c.hashes, crypto.Keccak256Hash(item))
		}
	}
	if len(c.hashes) != blocks+1 || len(c.bodies.ends) != blocks+1 {
		return nil, fmt.Errorf("%s has %d headers and %d bodies, not %d", chainFile, len(c.hashes), len(c.bodies.ends), blocks+1)
	}
	return c, nil
}
