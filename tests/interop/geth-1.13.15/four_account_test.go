//go:build four

package interop

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"cairn/interop/common/cairn"

	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/types"
)

const (
	period = time.Second
	// catchUp is how long after its start a signer may be without the head.
	catchUp = 20 * time.Second
	// grace is how long a cairn may have had the parent, in its turn, before it has signed: its record is on the disk first.
	grace = 500 * time.Millisecond
)

// Why somebody else's block stands where it was a signer's turn.
const (
	recents   = "recents"
	down      = "down"
	paused    = "told to seal nothing while ethereumjs came back"
	returning = "back, and not yet caught up"
	noParent  = "its parent never was its head"
	late      = "parent late"
	outdone   = "sealed, but another branch became the chain"
	taken     = "had the parent in time, and took another's block"
	unsealed  = "had the parent in time"
)

var causes = []string{recents, down, paused, returning, noParent, late, outdone, taken, unsealed}

// account is of each block of the chain: whose turn it was, who sealed it, and why if that is somebody else.
type account struct {
	t       *testing.T
	all     []*signer
	headers []*types.Header
	sealers []*signer
	inTurn  []*signer
	missed  map[*signer]map[string]int
	reorgs  map[*signer][]string
}

func newAccount(t *testing.T, all []*signer, chain *core.BlockChain, last uint64) *account {
	t.Helper()
	a := &account{t: t, all: all, missed: map[*signer]map[string]int{}, reorgs: map[*signer][]string{}}
	byAddress := slices.Clone(all)
	slices.SortFunc(byAddress, func(x, y *signer) int { return bytes.Compare(x.address[:], y.address[:]) })
	for number := range last + 1 {
		header := chain.GetHeaderByNumber(number)
		a.headers = append(a.headers, header)
		a.inTurn = append(a.inTurn, byAddress[number%uint64(len(all))])
		var sealer *signer
		if number > 0 {
			address, err := chain.Engine().Author(header)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range all {
				if s.address == address {
					sealer = s
				}
			}
		}
		a.sealers = append(a.sealers, sealer)
	}
	for _, s := range all {
		a.missed[s] = map[string]int{}
	}
	return a
}

// recently says whether a signer sealed one of the last two blocks before this one, of which four signers let each seal one in three.
func (a *account) recently(s *signer, number int) bool {
	return number >= 1 && a.sealers[number-1] == s || number >= 2 && a.sealers[number-2] == s
}

// each calls with every turn that a signer has lost for a reason that is not plain from the chain and from who was up.
func (a *account) each(s *signer, judge func(number int, slot time.Time, r run) string) {
	a.t.Helper()
	for number := 1; number < len(a.headers); number++ {
		if a.inTurn[number] != s || a.sealers[number] == s {
			continue
		}
		slot := time.Unix(int64(a.headers[number-1].Time), 0).Add(period)
		at := slices.IndexFunc(s.runs, func(r run) bool { return r.has(slot) })
		cause := down
		switch {
		case a.recently(s, number):
			cause = recents
		case at >= 0 && slices.ContainsFunc(s.paused, func(r run) bool { return r.has(slot) }):
			cause = paused
		case at >= 0:
			cause = judge(number, slot, s.runs[at])
		}
		a.missed[s][cause]++
		if cause != recents && cause != down && cause != paused {
			a.t.Logf("block %d, the turn of %s, is sealed by %s: %s", number, s.name, a.sealers[number].name, cause)
		}
	}
}

// parentCause is why a signer without the parent in time has none; empty if it had it.
func parentCause(at time.Time, found bool, slot time.Time, r run) string {
	switch {
	case !found && slot.Sub(r.from) < catchUp:
		return returning
	case !found:
		return noParent
	case at.After(slot):
		return fmt.Sprintf("%s by %v", late, at.Sub(slot).Round(10*time.Millisecond))
	}
	return ""
}

// kind is a cause without its figures.
func kind(cause string) string {
	for _, kind := range causes {
		if strings.HasPrefix(cause, kind) {
			return kind
		}
	}
	return cause
}

// saw accounts for a signer of which only its heads are known.
func (a *account) saw(s *signer, heads *seen) {
	a.each(s, func(number int, slot time.Time, r run) string {
		at, found := heads.within(a.headers[number-1].Hash().Hex(), r)
		if cause := parentCause(at, found, slot, r); cause != "" {
			return cause
		}
		return unsealed
	})
}

var (
	importedLine = regexp.MustCompile(`(?m)^(\S+) +INFO +Imported new chain segment number=\d+ hash=(\S+)`)
	sealedLine   = regexp.MustCompile(`(?m)^(\S+) +INFO +Sealed new block number=(\d+) hash=\S+ in_turn=true`)
	reorgLine    = regexp.MustCompile(`(?m)Chain reorg detected number=\d+ \S+ drop=(\d+) \S+ add=(\d+)`)
)

// reads accounts for a cairn by the logs of its runs. One that had the parent in time and did not seal fails the test.
func (a *account) reads(s *signer, nodes []*cairn.Node) {
	heads := new(seen)
	var times []time.Time
	sealed := map[string]bool{}
	for _, node := range nodes {
		log := node.Log()
		for _, line := range importedLine.FindAllStringSubmatch(log, -1) {
			at := a.time(line[1])
			heads.add(line[2], at)
			times = append(times, at)
		}
		for _, line := range sealedLine.FindAllStringSubmatch(log, -1) {
			sealed[line[2]] = true
		}
		for _, line := range reorgLine.FindAllStringSubmatch(log, -1) {
			a.reorgs[s] = append(a.reorgs[s], line[1]+"/"+line[2])
		}
	}
	a.each(s, func(number int, slot time.Time, r run) string {
		if sealed[fmt.Sprint(number)] {
			return outdone
		}
		at, found := heads.within(short(a.headers[number-1].Hash().Hex()), r)
		cause := parentCause(at, found, slot, r)
		if !found {
			return cause
		}
		// Late or not: with the parent as its head in its turn, and no other head for a while, it has to seal.
		from := at
		if from.Before(slot) {
			from = slot
		}
		next := slices.IndexFunc(times, func(other time.Time) bool { return other.After(at) })
		stayed := next < 0 || times[next].Sub(from) > grace
		if cause == "" && !stayed {
			// Its own block is the heavier one, whoever's comes first.
			if r.to.IsZero() || r.to.Sub(slot) > grace {
				a.t.Errorf("%s has not sealed block %d in its turn: it had the parent at %v, and took another's block %v after its turn had come",
					s.name, number, at.UTC(), times[next].Sub(slot).Round(time.Millisecond))
			}
			return taken
		}
		if r.to.IsZero() || r.to.Sub(from) > grace {
			if stayed {
				a.t.Errorf("%s has not sealed block %d in its turn: it had the parent at %v, the turn was at %v", s.name, number,
					at.UTC(), slot.UTC())
			}
		} else if cause == "" {
			return down
		}
		if cause == "" {
			return unsealed
		}
		return cause
	})
}

func (a *account) time(text string) time.Time {
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		a.t.Fatal(err)
	}
	return at
}

// short is a hash as cairn's log has it.
func short(hash string) string { return hash[2:8] + ".." + hash[60:] }

// report tells the figures.
func (a *account) report() {
	last := len(a.headers) - 1
	for _, s := range a.all {
		turns, kept, others := 0, 0, 0
		for number := 1; number <= last; number++ {
			switch {
			case a.inTurn[number] == s && a.sealers[number] == s:
				turns, kept = turns+1, kept+1
			case a.inTurn[number] == s:
				turns++
			case a.sealers[number] == s:
				others++
			}
		}
		a.t.Logf("%-10s %d turns, sealed %d in turn and %d out of turn; missed %v; reorganisations (drop/add) %v", s.name, turns, kept,
			others, total(a.missed[s]), a.reorgs[s])
		if kept == 0 {
			a.t.Errorf("%s has sealed nothing in its turn", s.name)
		}
	}
	pause, at := uint64(0), 0
	for number := 2; number <= last; number++ {
		if took := a.headers[number].Time - a.headers[number-1].Time; took > pause {
			pause, at = took, number
		}
	}
	a.t.Logf("%d blocks in %d s; the longest pause is %d s, before block %d", last, a.headers[last].Time-a.headers[1].Time, pause, at)
}

func total(missed map[string]int) map[string]int {
	kinds := map[string]int{}
	for cause, count := range missed {
		kinds[kind(cause)] += count
	}
	return kinds
}
