package interop

import (
	"encoding/json"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"cairn/interop/common/cairn"
	"cairn/interop/common/geth"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/consensus/beacon"
	"github.com/ethereum/go-ethereum/consensus/clique"
	"github.com/ethereum/go-ethereum/rpc"
)

// asJSON is what a client of geth's reads, with an empty list where geth has none.
func asJSON(t *testing.T, answer any, err error) any {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(answer)
	if err != nil {
		t.Fatal(err)
	}
	var read any
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	if object, ok := read.(map[string]any); ok && object["votes"] == nil && object["signers"] != nil {
		object["votes"] = []any{}
	}
	return read
}

// A network that `cairn network new` makes is one to geth, which a vote of cairn's signer lets in as the second signer; and of every
// block of it cairn says over its control socket what geth says of it.
func TestGethIsVotedIntoANewNetworkAndAnswersAsCairnDoes(t *testing.T) {
	folder := cairn.NewNetwork(t, "--raw-keys", "--signers", "1", "--period", "1", "--epoch", "7", "--chain-id", "90210")
	genesisFile := filepath.Join(folder, "genesis.json")
	store := cairn.Init(t, genesisFile)
	peer := geth.Start(t, geth.Config{
		Genesis: geth.ReadGenesis(t, genesisFile), DataDir: filepath.Join(t.TempDir(), "geth"), Etherbase: geth.Key(t, 1),
		Dialled: true,
	})
	node := connect(t, peer, store, false, "--enable-consensus", "--signer-key", filepath.Join(folder, "signer1", "signer.key"))
	grows(t, peer, 2)
	mine(t, peer, 1)
	if said := store.Ask("clique_propose", cairn.Addresses[1], true); string(said) != "null" {
		t.Fatalf("clique_propose: %s", said)
	}
	grows(t, peer, 4)
	// One of two votes: it stays open until the checkpoint, and is cast again after it.
	store.Ask("clique_propose", cairn.Addresses[2], true)
	grows(t, peer, 10)
	peer.Eth.StopMining()
	time.Sleep(2 * time.Second)
	agree(t, peer, store, stepLimit)

	chain := peer.Eth.BlockChain()
	api := peer.Eth.Engine().(*beacon.Beacon).InnerEngine().(*clique.Clique).APIs(chain)[0].Service.(*clique.API)
	same := func(method string, param any, answer any, err error) {
		t.Helper()
		var ours any
		if err := json.Unmarshal(store.Ask(method, param), &ours); err != nil {
			t.Fatal(err)
		}
		if theirs := asJSON(t, answer, err); !reflect.DeepEqual(ours, theirs) {
			t.Errorf("%s of %v: cairn says %v, geth %v", method, param, ours, theirs)
		}
	}
	votes := 0
	for number := range peer.Head().Number + 1 {
		at, hash := rpc.BlockNumber(number), chain.GetHeaderByNumber(number).Hash()
		snapshot, err := api.GetSnapshot(&at)
		same("clique_getSnapshot", number, snapshot, err)
		same("clique_getSnapshotAtHash", hash, snapshot, err)
		votes += len(snapshot.Votes)
		signers, err := api.GetSigners(&at)
		same("clique_getSigners", number, signers, err)
		same("clique_getSignersAtHash", hash, signers, err)
		if number > 0 {
			signer, err := peer.Eth.Engine().Author(chain.GetHeaderByNumber(number))
			same("clique_getSigner", number, signer, err)
		}
	}
	if votes == 0 {
		t.Error("no vote was open after any block")
	}
	if signers, err := api.GetSigners(nil); err != nil || len(signers) != 2 {
		t.Errorf("geth's signers are %v (%v), want two", signers, err)
	}
	want := map[string]bool{"0x" + cairn.Addresses[1]: true, "0x" + cairn.Addresses[2]: true}
	var proposals map[string]bool
	if err := json.Unmarshal(store.Ask("clique_proposals"), &proposals); err != nil || !reflect.DeepEqual(proposals, want) {
		t.Errorf("cairn proposes %v (%v), want %v", proposals, err, want)
	}
	store.Ask("clique_discard", common.HexToAddress(cairn.Addresses[1]))
	status, err := api.Status()
	theirs := asJSON(t, status, err).(map[string]any)
	var ours map[string]any
	if err := json.Unmarshal(store.Ask("clique_status"), &ours); err != nil {
		t.Fatal(err)
	}
	for name, value := range theirs {
		if reflect.TypeOf(ours[name]) != reflect.TypeOf(value) || len(ours) != len(theirs) {
			t.Errorf("clique_status: cairn says %v, geth %v", ours, theirs)
		}
	}
	node.Stop()
}
