// The server made of go-ethereum's own code.

package main

import (
	"fmt"

	"github.com/ethereum/go-ethereum/consensus/beacon"
	"github.com/ethereum/go-ethereum/consensus/ethash"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/rawdb"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/eth/protocols/eth"
	"github.com/ethereum/go-ethereum/ethdb/pebble"
	"github.com/ethereum/go-ethereum/p2p"
	"github.com/ethereum/go-ethereum/p2p/enode"
	"github.com/ethereum/go-ethereum/rlp"
)

// pebbleCacheMB and pebbleHandles are what a node of geth's gives its database where nothing else is asked for: half of 1 GiB.
const pebbleCacheMB, pebbleHandles = 512, 1024

// serveGeth serves a chain with go-ethereum's own handlers, from a pebble database in a folder or from memory, until it is
// killed.
func serveGeth(folder, database string) error {
	c, err := readChain(folder)
	if err != nil {
		return err
	}
	db := rawdb.NewMemoryDatabase()
	if database != "" {
		disk, err := pebble.New(database, pebbleCacheMB, pebbleHandles, "", false)
		if err != nil {
			return err
		}
		db = rawdb.NewDatabase(disk)
	}
	// The blocks cannot be executed, so they are put into the database beside the code that would.
	engine, config := beacon.New(ethash.NewFaker()), core.DefaultConfig().WithStateScheme(rawdb.HashScheme)
	first, err := core.NewBlockChain(db, c.genesis, engine, config)
	if err != nil {
		return err
	}
	first.Stop()
	for n := 1; n < len(c.hashes); n++ {
		header := new(types.Header)
		if err := rlp.DecodeBytes(c.headers.from(n, 1), header); err != nil {
			return err
		}
		rawdb.WriteHeader(db, header)
		rawdb.WriteBodyRLP(db, c.hashes[n], uint64(n), c.bodies.from(n, 1))
		rawdb.WriteCanonicalHash(db, c.hashes[n], uint64(n))
	}
	rawdb.WriteHeadHeaderHash(db, c.hashes[len(c.hashes)-1])
	// Out of the log of what was written last, to where a database has its older blocks.
	if err := db.Compact(nil, nil); err != nil {
		return err
	}
	blockchain, err := core.NewBlockChain(db, c.genesis, engine, config)
	if err != nil {
		return err
	}
	key, err := crypto.GenerateKey()
	if err != nil {
		return err
	}
	server := &p2p.Server{Config: p2p.Config{
		PrivateKey: key, Name: "geth", MaxPeers: 10, NoDiscovery: true, ListenAddr: "127.0.0.1:0",
		Protocols: eth.MakeProtocols(&backend{blockchain}, c.genesis.Config.ChainID.Uint64(), nil),
	}}
	if err := server.Start(); err != nil {
		return err
	}
	fmt.Println(server.Self().URLv4())
	// What is served comes from the database; the chain that was read is the collector's.
	c = nil
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
