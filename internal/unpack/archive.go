package unpack

import "bytes"

// IsArchive reports whether content begins as a zip or tar archive does.
func IsArchive(head []byte) bool { return IsZip(head) || IsTar(head) }

// IsZip reports whether content begins as a zip archive does.
func IsZip(head []byte) bool { return bytes.HasPrefix(head, []byte("PK\x03\x04")) }

// IsTar reports whether content begins as a tar archive does. It needs 512 bytes.
func IsTar(head []byte) bool { return len(head) >= 512 && string(head[257:262]) == "ustar" }
