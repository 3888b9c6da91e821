// The check of answers refuses what is short, wrong or of another block.

package main

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/rlp"
)

// numbered is a chain whose items are nothing but their numbers, each of so many bytes.
func numbered(t *testing.T, itemBytes int) *chain {
	c := new(chain)
	for n := range blocks + 1 {
		item, err := rlp.EncodeToBytes(binary.BigEndian.AppendUint32(bytes.Repeat([]byte{1}, itemBytes), uint32(n)))
		if err != nil {
			t.Fatal(err)
		}
		c.headers.add(item)
		c.bodies.add(item)
		c.hashes = append(c.hashes, common.Hash{})
	}
	return c
}

func answer(t *testing.T, id uint64, items []byte) []byte {
	var list []rlp.RawValue
	for len(items) > 0 {
		_, _, rest, err := rlp.Split(items)
		if err != nil {
			// Not an item: as it is.
			rest = nil
		}
		list, items = append(list, items[:len(items)-len(rest)]), rest
	}
	message, err := rlp.EncodeToBytes([]any{id, list})
	if err != nil {
		t.Fatal(err)
	}
	return message
}

func TestOnlyTheChainsOwnBytesFromTheBlockAskedForAreAnAnswer(t *testing.T) {
	const id = 5
	c := numbered(t, 100)
	for _, work := range workloads(c) {
		first := work.first(id)
		right := work.chain.from(first, work.amount)
		if got, err := work.check(answer(t, id, right)); err != nil || got != id {
			t.Errorf("%s: the right answer, %d: %v", work.name, got, err)
		}
		changed := bytes.Clone(right)
		changed[len(changed)-1]++
		for what, items := range map[string][]byte{
			"nothing":         nil,
			"a byte changed":  changed,
			"a byte short":    right[:len(right)-1],
			"another block":   work.chain.from(first+1, work.amount),
			"an item too few": right[:len(right)-len(right)/work.amount],
			"one too many":    work.chain.from(first, work.amount+1),
		} {
			if _, err := work.check(answer(t, id, items)); err == nil {
				t.Errorf("%s: %s was taken for an answer", work.name, what)
			}
		}
	}
}

func TestAnAnswerMayEndWhereItIsLongEnough(t *testing.T) {
	c := numbered(t, bodyBytes)
	bodies := workloads(c)[0]
	fits := softLimitBytes / len(c.bodies.from(0, 1))
	for amount, right := range map[int]bool{fits - 1: false, fits: true, fits + 1: true} {
		_, err := bodies.check(answer(t, 0, c.bodies.from(bodies.first(0), amount)))
		if (err == nil) != right {
			t.Errorf("%d of %d bodies: %v", amount, bodies.amount, err)
		}
	}
}
