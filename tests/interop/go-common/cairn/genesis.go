package cairn

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Keys of accounts with money in the genesis block, the first ones that everybody's development chains know.
var Keys = []string{
	"ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
	"59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
	"5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
}

// Addresses of those keys.
var Addresses = []string{
	"f39fd6e51aad88f6f4ce6ab8827279cfffb92266",
	"70997970c51812dc3a010c7d01b50e0d17dc79c8",
	"3c44cdddb6a900fa2b585dd299e03d12fa4293bc",
}

// Clique writes the genesis file of a clique chain with London's rules from the start, whose signers are the first of
// Addresses. Clients of today follow such a chain only where its merge is still to come, which terminalTotalDifficulty says.
func Clique(t testing.TB, signers int, periodS, epoch, timestamp uint64) string {
	t.Helper()
	config := map[string]any{
		"chainId": 1337,
		"clique":  map[string]any{"period": periodS, "epoch": epoch},
		// 10^30: no clique chain gets there.
		"terminalTotalDifficulty": json.Number("1000000000000000000000000000000"),
	}
	forks := "homestead eip150 eip155 eip158 byzantium constantinople petersburg istanbul muirGlacier berlin london"
	for _, fork := range strings.Fields(forks) {
		config[fork+"Block"] = 0
	}
	alloc := map[string]any{}
	for _, address := range Addresses {
		alloc[address] = map[string]any{"balance": "0xd3c21bcecceda1000000"}
	}
	genesis := map[string]any{
		"config":        config,
		"timestamp":     fmt.Sprintf("0x%x", timestamp),
		"extraData":     "0x" + strings.Repeat("00", 32) + strings.Join(Addresses[:signers], "") + strings.Repeat("00", 65),
		"gasLimit":      "0x1c9c380",
		"difficulty":    "0x1",
		"baseFeePerGas": "0x3b9aca00",
		"alloc":         alloc,
	}
	return WriteGenesis(t, genesis)
}

// WriteGenesis writes a genesis file, or any other that is JSON.
func WriteGenesis(t testing.TB, genesis any) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "genesis.json")
	text, err := json.MarshalIndent(genesis, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// KeyFile writes one of Keys as the file that a node takes it from.
func KeyFile(t testing.TB, index int) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "signer.key")
	if err := os.WriteFile(file, []byte(Keys[index]), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
