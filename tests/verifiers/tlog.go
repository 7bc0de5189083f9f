// Checks a Guankou evidence log with code that Guankou's authors did not write: the note and tlog
// packages with which the Go tool checks its checksum database (golang.org/x/mod/sumdb).
//
//	tlog [-pruned N] DIR VKEY [WITNESS_VKEY...]
//
// DIR holds checkpoint, tile/0/000, tile/entries/000 and so on (C2SP tlog-tiles), and may hold older
// signed heads under checkpoints/. VKEY is the key of the log, taken from somewhere else than DIR.
// Every WITNESS_VKEY (type 0x04) must have cosigned the checkpoint. With -pruned N the bundles that
// end at or before leaf N may be missing.
//
// Exit 0: all of it holds. Exit 1: the reason is on standard error.
//
// Debian: apt install golang-go golang-golang-x-mod-dev
// GO111MODULE=off GOPATH=/usr/share/gocode go run tlog.go DIR VKEY
package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
)

func fail(format string, args ...interface{}) {
	fmt.Fprintf(os.Stderr, "tlog: "+format+"\n", args...)
	os.Exit(1)
}

// witness checks cosignature/v1 lines, which sumdb/note does not know of itself.
type witness struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func (w witness) Name() string    { return w.name }
func (w witness) KeyHash() uint32 { return w.hash }
func (w witness) Verify(msg, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	signed := fmt.Sprintf("cosignature/v1\ntime %d\n%s", binary.BigEndian.Uint64(sig), msg)
	return ed25519.Verify(w.key, []byte(signed), sig[8:])
}

func parseWitness(vkey string) witness {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		fail("witness key %q is not name+hash+key", vkey)
	}
	key, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(key) != 33 || key[0] != 4 {
		fail("witness key %q is not of type 0x04", vkey)
	}
	sum := sha256.Sum256(append([]byte(parts[0]+"\n"), key...))
	if fmt.Sprintf("%x", sum[:4]) != parts[1] {
		fail("witness key %q has a wrong hash", vkey)
	}
	return witness{parts[0], binary.BigEndian.Uint32(sum[:4]), key[1:]}
}

// head reads a signed checkpoint; every witness must have cosigned it.
func head(path string, log note.Verifier, witnesses []witness) (string, tlog.Tree) {
	data, err := os.ReadFile(path)
	if err != nil {
		fail("%v", err)
	}
	all := []note.Verifier{log}
	for _, w := range witnesses {
		all = append(all, w)
	}
	opened, err := note.Open(data, note.VerifierList(all...))
	if err != nil {
		fail("%s: %v", path, err)
	}
	signed := map[string]bool{}
	for _, sig := range opened.Sigs {
		signed[fmt.Sprintf("%s+%08x", sig.Name, sig.Hash)] = true
	}
	for _, v := range all {
		if !signed[fmt.Sprintf("%s+%08x", v.Name(), v.KeyHash())] {
			fail("%s: no signature by %s", path, v.Name())
		}
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) < 4 {
		fail("%s: fewer than three lines", path)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		fail("%s: %v", path, err)
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		fail("%s: %v", path, err)
	}
	return lines[0], tlog.Tree{N: size, Hash: root}
}

// name is the path of a tile after C2SP tlog-tiles: x001/234, and .p/W for a partial one.
func name(n int64, width int) string {
	s := fmt.Sprintf("%03d", n%1000)
	for n >= 1000 {
		n /= 1000
		s = fmt.Sprintf("x%03d/%s", n%1000, s)
	}
	if width < tileWidth {
		s += fmt.Sprintf(".p/%d", width)
	}
	return s
}

// known are the hashes of complete subtrees, by tlog.StoredHashIndex. They are computed from the
// entries here and count only once they lead to the signed root. tlog.TileHashReader is not used: the
// one of golang.org/x/mod 0.7.0 leaves some tiles unchecked when the tree's right edge lies in few tiles.
type known map[int64]tlog.Hash

func (k known) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var all []tlog.Hash
	for _, i := range indexes {
		h, ok := k[i]
		if !ok {
			level, n := tlog.SplitStoredHashIndex(i)
			return nil, fmt.Errorf("the subtree %d of level %d was pruned", n, level)
		}
		all = append(all, h)
	}
	return all, nil
}

// add puts in the hash of a subtree and of all that it completes.
func (k known) add(level int, n int64, h tlog.Hash) {
	for {
		k[tlog.StoredHashIndex(level, n)] = h
		left, ok := k[tlog.StoredHashIndex(level, n-1)]
		if n%2 == 0 || !ok {
			return
		}
		level, n, h = level+1, n/2, tlog.NodeHash(left, h)
	}
}

// tile reads the hashes of a tile. A partial tile may be gone once the full one is there.
func tile(dir string, level int, n int64, width int) ([]tlog.Hash, error) {
	row := filepath.Join(dir, "tile", strconv.Itoa(level))
	data, err := os.ReadFile(filepath.Join(row, name(n, width)))
	if err != nil {
		var full error
		data, full = os.ReadFile(filepath.Join(row, name(n, tileWidth)))
		if full != nil {
			return nil, err
		}
		if len(data) == tileWidth*tlog.HashSize {
			data = data[:width*tlog.HashSize]
		}
	}
	if len(data) != width*tlog.HashSize {
		return nil, fmt.Errorf("tile/%d/%s has %d bytes", level, name(n, width), len(data))
	}
	hashes := make([]tlog.Hash, width)
	for i := range hashes {
		copy(hashes[i][:], data[i*tlog.HashSize:])
	}
	return hashes, nil
}

// widthOf is how many hashes of a row of `count` the tile n has.
func widthOf(n, count int64) int {
	if count-n*tileWidth < tileWidth {
		return int(count - n*tileWidth)
	}
	return tileWidth
}

// entries splits a bundle: each leaf has a big-endian length of two bytes before it.
func entries(data []byte) ([][]byte, error) {
	var all [][]byte
	for len(data) > 0 {
		if len(data) < 2 || len(data) < 2+int(binary.BigEndian.Uint16(data)) {
			return nil, fmt.Errorf("ends inside entry %d", len(all))
		}
		end := 2 + int(binary.BigEndian.Uint16(data))
		all, data = append(all, data[2:end]), data[end:]
	}
	return all, nil
}

// readEntries hashes each entry and compares it with its tile: the hashes, and how many entries.
func readEntries(dir string, tree tlog.Tree, pruned int64) (k known, checked int64) {
	k = known{}
	for n := int64(0); n*tileWidth < tree.N; n++ {
		width := widthOf(n, tree.N)
		bundle := filepath.Join(dir, "tile", "entries", name(n, width))
		data, err := os.ReadFile(bundle)
		if os.IsNotExist(err) && (n+1)*tileWidth <= pruned {
			k.add(tileHeight, n, root(dir, tree, n))
			continue
		}
		if err != nil {
			fail("%v", err)
		}
		leaves, err := entries(data)
		if err != nil || len(leaves) != width {
			fail("%s: %d entries instead of %d, %v", bundle, len(leaves), width, err)
		}
		expected, err := tile(dir, 0, n, width)
		if err != nil {
			fail("%v", err)
		}
		for i, leaf := range leaves {
			if tlog.RecordHash(leaf) != expected[i] {
				fail("entry %d was altered: its hash is not the one in the tile", n*tileWidth+int64(i))
			}
			k.add(0, n*tileWidth+int64(i), expected[i])
		}
		checked += int64(width)
	}
	return k, checked
}

// root is the hash of a pruned bundle, from the level-1 tile that is kept for ever.
func root(dir string, tree tlog.Tree, bundle int64) tlog.Hash {
	n := bundle / tileWidth
	hashes, err := tile(dir, 1, n, widthOf(n, tree.N/tileWidth))
	if err != nil {
		fail("%v", err)
	}
	return hashes[bundle%tileWidth]
}

// checkTiles compares the higher tiles with the hashes that lead to the signed root.
func checkTiles(dir string, tree tlog.Tree, k known) {
	for level, count := 1, tree.N/tileWidth; count > 0; level, count = level+1, count/tileWidth {
		for n := int64(0); n*tileWidth < count; n++ {
			hashes, err := tile(dir, level, n, widthOf(n, count))
			if err != nil {
				fail("%v", err)
			}
			for i, h := range hashes {
				if k[tlog.StoredHashIndex(level*tileHeight, n*tileWidth+int64(i))] != h {
					fail("hash %d of tile/%d/%s is not the one in the tree", i, level, name(n, len(hashes)))
				}
			}
		}
	}
}

// checkInclusion makes and checks a proof for a leaf at both ends, in the middle and at a bundle's edge.
func checkInclusion(tree tlog.Tree, hashes tlog.HashReader, pruned int64) {
	for _, at := range []int64{pruned, pruned + (tree.N-pruned)/2, tree.N / 256 * 256, tree.N - 1} {
		if at < pruned || at >= tree.N {
			continue
		}
		leaf, err := hashes.ReadHashes([]int64{tlog.StoredHashIndex(0, at)})
		if err != nil {
			fail("hash of entry %d: %v", at, err)
		}
		proof, err := tlog.ProveRecord(tree.N, at, hashes)
		if err != nil {
			fail("inclusion of entry %d: %v", at, err)
		}
		if err := tlog.CheckRecord(proof, tree.N, tree.Hash, at, leaf[0]); err != nil {
			fail("inclusion of entry %d: %v", at, err)
		}
	}
}

// checkConsistency checks that the log of an older signed head is the beginning of this one.
func checkConsistency(path string, tree, old tlog.Tree, hashes tlog.HashReader) {
	if old.N > tree.N {
		fail("%s signs %d entries, the log ends at %d: its end was cut off", path, old.N, tree.N)
	}
	if old.N == 0 {
		return
	}
	proof, err := tlog.ProveTree(tree.N, old.N, hashes)
	if err != nil {
		fail("%s: %v", path, err)
	}
	if err := tlog.CheckTree(proof, tree.N, tree.Hash, old.N, old.Hash); err != nil {
		fail("%s is of another history: %v", path, err)
	}
}

func main() {
	pruned := flag.Int64("pruned", 0, "bundles that end at or before this leaf may be missing")
	flag.Parse()
	if flag.NArg() < 2 {
		fail("usage: tlog [-pruned N] DIR VKEY [WITNESS_VKEY...]")
	}
	dir := flag.Arg(0)
	log, err := note.NewVerifier(strings.TrimSpace(flag.Arg(1)))
	if err != nil {
		fail("key of the log: %v", err)
	}
	var witnesses []witness
	for _, vkey := range flag.Args()[2:] {
		witnesses = append(witnesses, parseWitness(strings.TrimSpace(vkey)))
	}
	origin, tree := head(filepath.Join(dir, "checkpoint"), log, witnesses)
	if origin != log.Name() {
		fail("the checkpoint is of %s, the key of %s", origin, log.Name())
	}
	hashes, checked := readEntries(dir, tree, *pruned)
	if tree.N > 0 {
		root, err := tlog.TreeHash(tree.N, hashes)
		if err != nil || root != tree.Hash {
			fail("the entries do not lead to the signed root: one was altered, added or taken out")
		}
		checkTiles(dir, tree, hashes)
		checkInclusion(tree, hashes, *pruned)
	}
	older, _ := filepath.Glob(filepath.Join(dir, "checkpoints", "*"))
	skipped := 0
	for _, path := range older {
		other, old := head(path, log, nil)
		if other != origin {
			fail("%s is of %s", path, other)
		}
		// Inside a pruned bundle no proof can be made; the head is then only known to be signed.
		if old.N < *pruned && old.N%tileWidth != 0 {
			skipped++
			continue
		}
		checkConsistency(path, tree, old, hashes)
	}
	fmt.Printf("%s: %d entries, %d checked, %d of %d older heads, %d witnesses\n",
		origin, tree.N, checked, len(older)-skipped, len(older), len(witnesses))
}
