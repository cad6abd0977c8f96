// Verify_tlog checks an exported audit log with code that Yinyom's makers never touched:
// golang.org/x/mod/sumdb/note for the signature under the checkpoint, and
// golang.org/x/mod/sumdb/tlog for the tiles, for every event and for consistency. What is
// written here is only how to find the files: C2SP leaves the height out of Go's tile paths.
//
//	verify_tlog FOLDER VERIFIER_KEY [OLD_CHECKPOINT]
//
// Exit status 0 and a line on standard output when the log holds, 1 and a line on standard
// error when it does not.
package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	height = 8
	width  = 1 << height
)

// A folder serves the tiles of a log from its exported files.
type folder string

func (f folder) read(tile tlog.Tile) ([]byte, error) {
	path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
	path = strings.Replace(path, "tile/data/", "tile/entries/", 1)
	return os.ReadFile(filepath.Join(string(f), filepath.FromSlash(path)))
}

func (f folder) Height() int { return height }

func (f folder) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		data, err := f.read(tile)
		if err != nil {
			return nil, err
		}
		if len(data) != tile.W*tlog.HashSize {
			return nil, fmt.Errorf("%s holds %d bytes", tile.Path(), len(data))
		}
		all = append(all, data)
	}
	return all, nil
}

func (f folder) SaveTiles([]tlog.Tile, [][]byte) {}

// openCheckpoint checks the signature under a checkpoint and reads its three lines.
func openCheckpoint(message []byte, verifier note.Verifier) (tlog.Tree, error) {
	opened, err := note.Open(message, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() || lines[3] != "" {
		return tlog.Tree{}, fmt.Errorf("not a checkpoint of %s", verifier.Name())
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 {
		return tlog.Tree{}, fmt.Errorf("not a tree size: %s", lines[1])
	}
	root, err := tlog.ParseHash(lines[2])
	return tlog.Tree{N: size, Hash: root}, err
}

// checkBundle compares one bundle of entries with the authenticated hashes of its leaves.
func checkBundle(files folder, hashes tlog.HashReader, tree tlog.Tree, start int64) error {
	count := tree.N - start
	if count > width {
		count = width
	}
	indexes := make([]int64, count)
	for i := range indexes {
		indexes[i] = tlog.StoredHashIndex(0, start+int64(i))
	}
	leaves, err := hashes.ReadHashes(indexes)
	if err != nil {
		return err
	}
	data, err := files.read(tlog.Tile{H: height, L: -1, N: start / width, W: int(count)})
	if err != nil {
		return err
	}
	for i, leaf := range leaves {
		if len(data) < 2 || len(data)-2 < int(binary.BigEndian.Uint16(data)) {
			return fmt.Errorf("the bundle of event %d ends early", start+int64(i))
		}
		end := 2 + int(binary.BigEndian.Uint16(data))
		if tlog.RecordHash(data[2:end]) != leaf {
			return fmt.Errorf("event %d is not in the log", start+int64(i))
		}
		data = data[end:]
	}
	if len(data) > 0 {
		return fmt.Errorf("the bundle of event %d goes on after its last", start)
	}
	proof, err := tlog.ProveRecord(tree.N, start, hashes)
	if err != nil {
		return err
	}
	return tlog.CheckRecord(proof, tree.N, tree.Hash, start, leaves[0])
}

func checkConsistency(hashes tlog.HashReader, tree, old tlog.Tree) error {
	if old.N > tree.N {
		return fmt.Errorf("the log was cut from %d events to %d", old.N, tree.N)
	}
	if old.N == 0 {
		return nil
	}
	proof, err := tlog.ProveTree(tree.N, old.N, hashes)
	if err != nil {
		return err
	}
	return tlog.CheckTree(proof, tree.N, tree.Hash, old.N, old.Hash)
}

func verify(arguments []string) error {
	if len(arguments) < 2 || len(arguments) > 3 {
		return fmt.Errorf("usage: verify_tlog FOLDER VERIFIER_KEY [OLD_CHECKPOINT]")
	}
	files := folder(arguments[0])
	verifier, err := note.NewVerifier(arguments[1])
	if err != nil {
		return err
	}
	message, err := os.ReadFile(filepath.Join(arguments[0], "checkpoint"))
	if err != nil {
		return err
	}
	tree, err := openCheckpoint(message, verifier)
	if err != nil {
		return err
	}
	hashes := tlog.TileHashReader(tree, files)
	if tree.N > 0 {
		root, err := tlog.TreeHash(tree.N, hashes)
		if err != nil {
			return err
		}
		if root != tree.Hash {
			return fmt.Errorf("the tiles do not lead to the root in the checkpoint")
		}
	}
	for start := int64(0); start < tree.N; start += width {
		if err := checkBundle(files, hashes, tree, start); err != nil {
			return err
		}
	}
	if len(arguments) == 3 {
		message, err := os.ReadFile(arguments[2])
		if err != nil {
			return err
		}
		old, err := openCheckpoint(message, verifier)
		if err != nil {
			return err
		}
		if err := checkConsistency(hashes, tree, old); err != nil {
			return err
		}
	}
	fmt.Printf("%d events, root %s\n", tree.N, tree.Hash)
	return nil
}

func main() {
	if err := verify(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
