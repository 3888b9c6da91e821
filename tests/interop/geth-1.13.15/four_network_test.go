//go:build four

package interop

import (
	"slices"
	"sync"
	"testing"
	"time"

	"cairn/interop/common/cairn"
)

// seen are the times at which a signer first had blocks as its head.
type seen struct {
	mutex sync.Mutex
	at    map[string][]time.Time
}

func (s *seen) add(hash string, at time.Time) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.at == nil {
		s.at = map[string][]time.Time{}
	}
	s.at[hash] = append(s.at[hash], at)
}

// within is when a head was first seen during a run.
func (s *seen) within(hash string, r run) (time.Time, bool) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, at := range s.at[hash] {
		if r.has(at) {
			return at, true
		}
	}
	return time.Time{}, false
}

// four is the network while it runs.
type four struct {
	t     *testing.T
	all   []*signer
	g, js *signer
	// forget removes the client's chain.
	forget func()
	// restarts were needed because the client had lost the chain.
	restarts int
	// lag is since when the client has been behind.
	lag time.Time
}

// heads are those of all that are up.
func (f *four) heads() []cairn.Block {
	var heads []cairn.Block
	for _, s := range f.all {
		if !s.isUp() {
			continue
		}
		if head, ok := s.head(); ok {
			heads = append(heads, head)
		}
	}
	return heads
}

func (f *four) top() uint64 {
	top := uint64(0)
	for _, head := range f.heads() {
		top = max(top, head.Number)
	}
	return top
}

// together says whether all four are up and near each other.
func (f *four) together() bool {
	heads := f.heads()
	if len(heads) < len(f.all) {
		return false
	}
	low, high := heads[0].Number, heads[0].Number
	for _, head := range heads {
		low, high = min(low, head.Number), max(high, head.Number)
	}
	return high-low <= apart
}

// isLate says whether the test's time is all but over: what there is by now is accounted for.
func (f *four) isLate() bool {
	deadline, ok := f.t.Deadline()
	return ok && time.Until(deadline) < reserve
}

// wait is until something is so, or it is late; a network that stands still meanwhile fails the test. It looks after the client.
func (f *four) wait(what string, is func() bool) {
	f.t.Helper()
	top, moved := f.top(), time.Now()
	for !is() && !f.isLate() {
		if now := f.top(); now > top {
			top, moved = now, time.Now()
		}
		if time.Since(moved) > pauseLimit {
			f.t.Fatalf("waiting until %s: the network stands still at block %d for %v; heads %v", what, top, pauseLimit, f.heads())
		}
		f.tend()
		time.Sleep(200 * time.Millisecond)
	}
}

// oneHead waits until all four have the very same head, and gives it.
func (f *four) oneHead() cairn.Block {
	f.t.Helper()
	var one cairn.Block
	agree := func() bool {
		f.tend()
		heads := f.heads()
		one = heads[0]
		different := func(head cairn.Block) bool { return head != one }
		return len(heads) == len(f.all) && !slices.ContainsFunc(heads, different)
	}
	if !cairn.Within(pauseLimit, agree) {
		f.t.Errorf("the heads are not one: %v", f.heads())
	}
	return one
}

// tend has the client begin anew where it has lost the chain, as its keeper would.
func (f *four) tend() {
	if !f.js.isUp() || f.follows() {
		f.lag = time.Time{}
		return
	}
	if f.lag.IsZero() {
		f.lag = time.Now()
	}
	if time.Since(f.lag) > lagLimit {
		head, _ := f.js.head()
		f.t.Logf("ethereumjs has been at block %d and the others at %d, and not with them, for %v: it starts anew", head.Number, f.top(),
			lagLimit)
		f.restarts++
		f.js.goesDown()
		f.returns()
	}
}

// follows says whether the client has the head of another at this moment.
func (f *four) follows() bool {
	head, ok := f.js.head()
	for _, s := range f.all {
		if ok && s != f.js && s.isUp() {
			if other, _ := s.head(); other == head {
				return true
			}
		}
	}
	return false
}

// returns starts the client without its old chain, and while the chain stands still.
//
// With the old one it may refuse what comes for ever: after a reorganisation it takes who sealed the block that gave way for one of those who
// sealed recently. And it fetches what its peers had when they met, and then asks nobody for a block that it has missed: of a chain that
// goes on each second it would stay some blocks behind. So geth, if it is up, seals nothing meanwhile, and the two cairns are no majority.
func (f *four) returns() {
	if f.g.isUp() {
		f.g.pause()
	}
	f.forget()
	f.js.goesUp()
	caughtUp := cairn.Within(returnLimit, f.follows)
	if f.g.isUp() {
		f.g.goOn()
	}
	if !caughtUp {
		f.t.Logf("ethereumjs, started, has not caught up after %v", returnLimit)
	}
	f.lag = time.Time{}
}
