package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/big"
	"os"
	"path/filepath"

	"github.com/ethereum/go-ethereum/consensus/beacon"
	"github.com/ethereum/go-ethereum/consensus/ethash"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/rawdb"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/eth/protocols/eth"
	"github.com/ethereum/go-ethereum/p2p"
	"github.com/ethereum/go-ethereum/p2p/enode"
	"github.com/ethereum/go-ethereum/rlp"
)

// chain is the generated chain.
type chain struct {
	genesis *core.Genesis
	blocks  []*types.Block
}

func readChain(folder string) (*chain, error) {
	text, err := os.ReadFile(filepath.Join(folder, "genesis.json"))
	if err != nil {
		return nil, err
	}
	c := &chain{genesis: new(core.Genesis)}
	if err := json.Unmarshal(text, c.genesis); err != nil {
		return nil, err
	}
	// Its merge never comes.
	c.genesis.Config.TerminalTotalDifficulty = new(big.Int).Exp(big.NewInt(10), big.NewInt(30), nil)
	file, err := os.Open(filepath.Join(folder, "chain.rlp"))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	for stream := rlp.NewStream(file, 0); ; {
		block := new(types.Block)
		if err := stream.Decode(block); err == io.EOF {
			return c, nil
		} else if err != nil {
			return nil, err
		}
		c.blocks = append(c.blocks, block)
	}
}

// serveGeth serves a chain from memory with go-ethereum's own handlers, until it is killed.
func serveGeth(folder string) {
	c, err := readChain(folder)
	if err != nil {
		log.Fatal(err)
	}
	// The blocks cannot be executed, so they are put into the database beside the code that would.
	db := rawdb.NewMemoryDatabase()
	engine, config := beacon.New(ethash.NewFaker()), core.DefaultConfig().WithStateScheme(rawdb.HashScheme)
	first, err := core.NewBlockChain(db, c.genesis, engine, config)
	if err != nil {
		log.Fatal(err)
	}
	first.Stop()
	for _, block := range c.blocks {
		rawdb.WriteBlock(db, block)
		rawdb.WriteCanonicalHash(db, block.Hash(), block.NumberU64())
	}
	rawdb.WriteHeadHeaderHash(db, c.blocks[len(c.blocks)-1].Hash())
	blockchain, err := core.NewBlockChain(db, c.genesis, engine, config)
	if err != nil {
		log.Fatal(err)
	}
	key, err := crypto.GenerateKey()
	if err != nil {
		log.Fatal(err)
	}
	server := &p2p.Server{Config: p2p.Config{
		PrivateKey: key, Name: "geth", MaxPeers: 10, NoDiscovery: true, ListenAddr: "127.0.0.1:0",
		Protocols: eth.MakeProtocols(&backend{blockchain}, c.genesis.Config.ChainID.Uint64(), nil),
	}}
	if err := server.Start(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(server.Self().URLv4())
	select {}
}

// backend answers and wants nothing.
type backend struct{ chain *core.BlockChain }

func (b *backend) Chain() *core.BlockChain            { return b.chain }
func (b *backend) TxPool() eth.TxPool                 { return nil }
func (b *backend) BlobPool() eth.BlobPool             { return nil }
func (b *backend) AcceptTxs() bool                    { return false }
func (b *backend) PeerInfo(enode.ID) any              { return nil }
func (b *backend) Handle(*eth.Peer, eth.Packet) error { return nil }

func (b *backend) RunPeer(peer *eth.Peer, handle eth.Handler) error {
	head := b.chain.CurrentHeader()
	blocks := eth.BlockRangeUpdatePacket{LatestBlock: head.Number.Uint64(), LatestBlockHash: head.Hash()}
	if err := peer.Handshake(b.chain.Config().ChainID.Uint64(), b.chain, blocks); err != nil {
		return err
	}
	return handle(peer)
}
