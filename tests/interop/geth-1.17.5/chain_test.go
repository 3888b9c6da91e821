package interop

import (
	"crypto/ecdsa"
	"math/big"
	"os"
	"path/filepath"
	"testing"

	"cairn/interop/common/cairn"
	"cairn/interop/common/geth"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/consensus/beacon"
	"github.com/ethereum/go-ethereum/consensus/clique"
	"github.com/ethereum/go-ethereum/consensus/ethash"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/rawdb"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/params"
	"github.com/ethereum/go-ethereum/triedb"
	"github.com/holiman/uint256"
)

// loudBlock has receipts of 3 MB.
const loudBlock = 7

// Chain is a finished chain, on disk and decoded.
type Chain struct {
	genesisFile, file string
	genesis           *core.Genesis
	blocks            []*types.Block
}

func (c *Chain) head() *types.Block { return c.blocks[len(c.blocks)-1] }

// readChain reads a genesis file and a block file.
func readChain(t testing.TB, genesisFile, file string) *Chain {
	t.Helper()
	return &Chain{genesisFile, file, geth.ReadGenesis(t, genesisFile), geth.ReadBlocks(t, file)}
}

// executedChain makes a clique chain with one signer whose blocks hold transactions of every kind, executed by geth.
func executedChain(t testing.TB, blocks int) *Chain {
	t.Helper()
	const epoch = 100 // some checkpoints are on the way
	genesisFile := cairn.Clique(t, 1, 1, epoch, 1_700_000_000)
	genesis := geth.ReadGenesis(t, genesisFile)
	db := rawdb.NewMemoryDatabase()
	parent := genesis.MustCommit(db, triedb.NewDatabase(db, triedb.HashDefaults))
	key, account := geth.Key(t, 0), geth.NewAccount(geth.Key(t, 1))
	signer := crypto.PubkeyToAddress(key.PublicKey)
	engine := clique.New(genesis.Config.Clique, db)
	var made []*types.Block
	for number := 1; number <= blocks; number++ {
		one, _ := core.GenerateChain(genesis.Config, parent, engine, db, 1, func(_ int, block *core.BlockGen) {
			block.SetDifficulty(big.NewInt(2))
			// Fees go to whoever seals.
			block.SetCoinbase(signer)
			txs := account.Next(t)
			if number == loudBlock {
				txs = append(txs, account.Loud(t, 28)...)
			}
			for _, tx := range txs {
				block.AddTx(tx)
			}
		})
		header := one[0].Header()
		header.Coinbase = common.Address{}
		var signers []common.Address
		if number%epoch == 0 {
			signers = []common.Address{signer}
		}
		seal(t, header, key, signers)
		parent = one[0].WithSeal(header)
		made = append(made, parent)
	}
	return &Chain{genesisFile, writeBlocks(t, made), genesis, made}
}

// mergedChain makes a chain with Prague's rules whose blocks hold transactions of every type, withdrawals, and nothing that
// proves who made them.
func mergedChain(t testing.TB, blocks int) *Chain {
	t.Helper()
	config := *params.MergedTestChainConfig
	config.ChainID = big.NewInt(1337)
	// What these chains hold ends with Prague: later rules are not in every client.
	config.OsakaTime = nil
	alloc := types.GenesisAlloc{
		params.BeaconRootsAddress:        {Nonce: 1, Code: params.BeaconRootsCode, Balance: common.Big0},
		params.HistoryStorageAddress:     {Nonce: 1, Code: params.HistoryStorageCode, Balance: common.Big0},
		params.WithdrawalQueueAddress:    {Nonce: 1, Code: params.WithdrawalQueueCode, Balance: common.Big0},
		params.ConsolidationQueueAddress: {Nonce: 1, Code: params.ConsolidationQueueCode, Balance: common.Big0},
	}
	for _, address := range cairn.Addresses {
		alloc[common.HexToAddress(address)] = types.Account{Balance: new(big.Int).Mul(big.NewInt(1e18), big.NewInt(1e6))}
	}
	genesisFile := cairn.WriteGenesis(t, &core.Genesis{
		Config: &config, Timestamp: 1_700_000_000, GasLimit: 30_000_000, Difficulty: common.Big0, Alloc: alloc,
		BaseFee: big.NewInt(params.InitialBaseFee),
	})
	genesis := geth.ReadGenesis(t, genesisFile)
	account, sender := geth.NewAccount(geth.Key(t, 1)), geth.Key(t, 2)
	engine := beacon.New(ethash.NewFaker())
	_, made, _ := core.GenerateChainWithGenesis(genesis, engine, blocks, func(i int, block *core.BlockGen) {
		block.SetPoS()
		block.SetParentBeaconRoot(common.Hash{31: byte(i)})
		block.SetCoinbase(common.Address{19: 0xfe})
		txs := append(account.Next(t), lateTransactions(t, sender, uint64(i))...)
		if i+1 == loudBlock {
			txs = append(txs, account.Loud(t, 28)...)
		}
		for _, tx := range txs {
			block.AddTx(tx)
		}
		block.AddWithdrawal(&types.Withdrawal{Validator: uint64(i), Address: common.Address{19: 0xef}, Amount: 7})
	})
	return &Chain{genesisFile, writeBlocks(t, made), genesis, made}
}

// lateTransactions are the types that a clique chain does not know: one with a blob, and one that sets an account's code.
func lateTransactions(t testing.TB, key *ecdsa.PrivateKey, block uint64) []*types.Transaction {
	t.Helper()
	chainID, fee, tip := uint256.NewInt(1337), uint256.NewInt(3_000_000_000), uint256.NewInt(1)
	// Each block uses the numbers of two transactions and, its sender being the authority, of one authorisation.
	nonce := block * 3
	authorisation, err := types.SignSetCode(key, types.SetCodeAuthorization{
		ChainID: *chainID, Address: common.Address{19: 0xaa}, Nonce: nonce + 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	to := common.Address{19: 0xef}
	signer := types.LatestSignerForChainID(chainID.ToBig())
	return []*types.Transaction{
		types.MustSignNewTx(key, signer, &types.BlobTx{
			ChainID: chainID, Nonce: nonce, GasTipCap: tip, GasFeeCap: fee, Gas: 21_000, To: to,
			BlobFeeCap: fee, BlobHashes: []common.Hash{{0: 1, 31: byte(block)}},
		}),
		types.MustSignNewTx(key, signer, &types.SetCodeTx{
			ChainID: chainID, Nonce: nonce + 1, GasTipCap: tip, GasFeeCap: fee, Gas: 100_000, To: to,
			AuthList: []types.SetCodeAuthorization{authorisation},
		}),
	}
}

// seal signs a clique header that names these signers, if it is a checkpoint.
func seal(t testing.TB, header *types.Header, key *ecdsa.PrivateKey, signers []common.Address) {
	t.Helper()
	header.Extra = make([]byte, 32)
	for _, signer := range signers {
		header.Extra = append(header.Extra, signer[:]...)
	}
	header.Extra = append(header.Extra, make([]byte, crypto.SignatureLength)...)
	signature, err := crypto.Sign(clique.SealHash(header).Bytes(), key)
	if err != nil {
		t.Fatal(err)
	}
	copy(header.Extra[len(header.Extra)-crypto.SignatureLength:], signature)
}

func writeBlocks(t testing.TB, blocks []*types.Block) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "chain.rlp")
	if err := os.WriteFile(file, geth.Encoded(t, blocks), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}
