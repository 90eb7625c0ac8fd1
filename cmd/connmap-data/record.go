package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A record describes the origin of a file. It is beside the file, in FILE.meta. Without it the
// file works all the same, but the next update downloads it whole.
type record struct {
	File *revision `json:"file,omitempty"` // in use
	Part *revision `json:"part,omitempty"` // being downloaded
}

// A revision is one version of a file on a server.
type revision struct {
	URL          string    `json:"url"`
	ETag         string    `json:"etag,omitempty"`
	LastModified string    `json:"last_modified,omitempty"`
	Size         int64     `json:"size"` // -1: unknown
	ModTime      time.Time `json:"mod_time,omitzero"`
	Kind         string    `json:"kind,omitempty"`
	Rows         int64     `json:"rows,omitempty"`
	Date         time.Time `json:"date,omitzero"`
	Remarks      []string  `json:"remarks,omitempty"`
	Checked      time.Time `json:"checked,omitzero"` // when the server last had nothing newer
	SHA256       string    `json:"sha256,omitempty"` // of the file in use
}

// validator returns what identifies this version in an If-Range header, which does not allow
// weak ETags.
func (v *revision) validator() string {
	if v.ETag != "" && !strings.HasPrefix(v.ETag, "W/") {
		return v.ETag
	}
	return v.LastModified
}

// readRecord returns the record of a file. It is empty if the file was changed since, by its size
// and time, but a copy that has lost only its time is the same file.
func readRecord(name string) *record {
	rec := &record{}
	b, err := os.ReadFile(name + ".meta")
	if err != nil || json.Unmarshal(b, rec) != nil {
		return &record{}
	}
	if v := rec.File; v != nil {
		info, err := os.Stat(name)
		if err != nil || info.Size() != v.Size || !info.ModTime().Equal(v.ModTime) && !v.describes(name) {
			rec.File = nil
		}
	}
	return rec
}

// describes reports whether a file has the recorded content.
func (v *revision) describes(name string) bool {
	sum, err := sumOf(name)
	return v.SHA256 != "" && err == nil && sum == v.SHA256
}

// sumOf returns the SHA-256 of a file in hexadecimal digits.
func sumOf(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// writeRecord writes rec for the next run.
func writeRecord(name string, rec *record) error {
	if *rec == (record{}) {
		err := os.Remove(name + ".meta")
		if os.IsNotExist(err) {
			return nil
		}
		return err
	}
	b, err := json.MarshalIndent(rec, "", "  ")
	if err != nil {
		return err
	}
	temp := name + ".meta.new"
	if err := os.WriteFile(temp, append(b, '\n'), 0o644); err != nil {
		os.Remove(temp)
		return err
	}
	return os.Rename(temp, name+".meta")
}

// replace replaces the file target by the file source. At any moment one of them is there
// whole, also after a loss of power.
func replace(source, target string) error {
	f, err := os.Open(source)
	if err != nil {
		return err
	}
	err = f.Sync()
	f.Close()
	if err != nil {
		return err
	}
	if err := os.Rename(source, target); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(target))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
