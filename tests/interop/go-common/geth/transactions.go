package geth

import (
	"crypto/ecdsa"
	"math/big"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
)

// counterCode makes a contract that counts its calls in its storage and logs the count under topic 0xaa; making it logs, too.
//
//	LOG0(0, 0); CODECOPY(0, 0x11, 0x15); RETURN(0, 0x15)
//	count := SLOAD(0) + 1; SSTORE(0, count); MSTORE(0, count); LOG1(0, 32, 0xaa); STOP
const counterCode = "60006000a06015601160003960156000f3" +
	"60005460010180600055600052" + "60aa60206000a1" + "00"

// Account sends transactions of a chain with London's rules and chain id 1337.
type Account struct {
	key   *ecdsa.PrivateKey
	nonce uint64
	// counter is the contract it made first.
	counter common.Address
}

// NewAccount is that of a key which has sent nothing yet.
func NewAccount(key *ecdsa.PrivateKey) *Account {
	return &Account{key: key, counter: crypto.CreateAddress(crypto.PubkeyToAddress(key.PublicKey), 0)}
}

// Next are the account's next transactions, one of each kind there is on a clique chain: first a contract is made, then it
// is called by types 0, 1 and 2, money is sent, and one fails.
func (a *Account) Next(t testing.TB) []*types.Transaction {
	t.Helper()
	chainID := big.NewInt(1337)
	price, tip := big.NewInt(3_000_000_000), big.NewInt(1_000_000_000)
	access := types.AccessList{{Address: a.counter, StorageKeys: []common.Hash{{}}}}
	receiver := common.Address{0: 0xbe, 19: 0xef}
	var kinds []types.TxData
	if a.nonce == 0 {
		kinds = append(kinds, &types.LegacyTx{GasPrice: price, Gas: 200_000, Data: common.FromHex(counterCode)})
	}
	kinds = append(kinds,
		&types.LegacyTx{GasPrice: price, Gas: 100_000, To: &a.counter},
		&types.AccessListTx{ChainID: chainID, GasPrice: price, Gas: 100_000, To: &a.counter, AccessList: access},
		&types.DynamicFeeTx{ChainID: chainID, GasTipCap: tip, GasFeeCap: price, Gas: 100_000, To: &a.counter},
		&types.DynamicFeeTx{ChainID: chainID, GasTipCap: tip, GasFeeCap: price, Gas: 21_000, To: &receiver, Value: tip},
		// Code that is no code uses up its gas and leaves a receipt of failure.
		&types.LegacyTx{GasPrice: price, Gas: 60_000, Data: []byte{0xfe}},
	)
	return a.sign(t, kinds)
}

// Loud are transactions that log 100 kB each, at 0.9 million gas: 28 of them fill a block, whose receipts are then more
// than an answer's soft limit of 2 MiB.
func (a *Account) Loud(t testing.TB, count int) []*types.Transaction {
	t.Helper()
	var kinds []types.TxData
	for range count {
		// LOG0(0, 100000); STOP
		kinds = append(kinds, &types.LegacyTx{
			GasPrice: big.NewInt(3_000_000_000), Gas: 950_000, Data: common.FromHex("620186a06000a000"),
		})
	}
	return a.sign(t, kinds)
}

func (a *Account) sign(t testing.TB, kinds []types.TxData) []*types.Transaction {
	t.Helper()
	signer := types.LatestSignerForChainID(big.NewInt(1337))
	signed := make([]*types.Transaction, len(kinds))
	for i, kind := range kinds {
		switch kind := kind.(type) {
		case *types.LegacyTx:
			kind.Nonce = a.nonce
		case *types.AccessListTx:
			kind.Nonce = a.nonce
		case *types.DynamicFeeTx:
			kind.Nonce = a.nonce
		}
		a.nonce++
		tx, err := types.SignNewTx(a.key, signer, kind)
		if err != nil {
			t.Fatal(err)
		}
		signed[i] = tx
	}
	return signed
}
