//go:build measure

package interop

import (
	"fmt"
	"os"
	"testing"
	"time"

	"cairn/interop/common/geth"

	"github.com/ethereum/go-ethereum/common"
)

// TestGethFetches is a program rather than a test: tests/interop/catch-up/run has it fetch a chain from a cairn that runs, and counts
// its time until it is killed.
func TestGethFetches(t *testing.T) {
	head := os.Getenv("FETCH_HEAD")
	peer, sync := startSyncing(t, geth.ReadGenesis(t, os.Getenv("FETCH_GENESIS")), false)
	peer.Dial(os.Getenv("FETCH_FROM"))
	peer.Peer()
	if err := sync.Sync(common.HexToHash(head)); err != nil {
		t.Fatal(err)
	}
	peer.Reaches(head, syncLimit)
	fmt.Printf("fetched at %d\n", time.Now().UnixMilli())
	select {}
}
