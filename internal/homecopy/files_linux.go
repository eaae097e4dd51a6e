package homecopy

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// maxRanges is how many parts a file with holes may have in a copy. What has more is read
// with its holes.
const maxRanges = 10_000

// dataRanges returns the parts of a file that are not holes, and nil for a file without
// holes, or if the file system does not know.
func dataRanges(f *os.File, st stat) []Range {
	if st.Blocks*512 >= st.Size {
		return nil
	}
	data := []Range{}
	for at := int64(0); at < st.Size && len(data) < maxRanges; {
		begin, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return data
		}
		if err != nil {
			return nil
		}
		end, err := unix.Seek(int(f.Fd()), begin, unix.SEEK_HOLE)
		if err != nil {
			return nil
		}
		end = min(end, st.Size)
		if begin >= end {
			return data
		}
		data = append(data, Range{begin, end - begin})
		at = end
	}
	if len(data) == maxRanges { // the rest as one part
		last := &data[maxRanges-1]
		last.Length = st.Size - last.Offset
	}
	return data
}

// cloneFile makes a file share the content of another where the file system can do that.
func cloneFile(to, from *os.File, size int64) bool {
	if unix.IoctlFileClone(int(to.Fd()), int(from.Fd())) != nil {
		return false
	}
	return to.Truncate(size) == nil
}

// The bytes of files that SQLite locks. Source: https://www.sqlite.org/fileformat2.html
// and https://www.sqlite.org/walformat.html.
const (
	pendingByte  = 0x40000000
	reservedByte = pendingByte + 1
	sharedFirst  = pendingByte + 2
	sharedSize   = 510
	walWriteByte = 120
	walCheckByte = 121
)

// lockWait is how long a copy waits for the locks of a database. What has them for longer
// is copied without them, and whether it has changed is seen by its times.
const lockWait = 150 * time.Millisecond

// lockDatabase keeps others from writing to a database, as SQLite itself does, until unlock
// is called. It reports whether somebody is about to write, who has a journal then. Where
// the locks cannot be had it does without.
func lockDatabase(ctx context.Context, at place, f *os.File) (unlock func(), writes bool) {
	var open []*os.File
	unlock = func() {
		for _, f := range open {
			_ = f.Close() // which unlocks
		}
	}
	if shm, _, err := openAt(place{at.dir, at.name + "-shm", at.path}, unix.O_RDWR); err == nil {
		open = append(open, shm)
		waitLock(ctx, shm, unix.F_WRLCK, walWriteByte, 2)
	}
	if db, _, err := openAt(at, unix.O_RDWR); err == nil {
		open = append(open, db)
		waitLock(ctx, db, unix.F_RDLCK, pendingByte, 1)
		waitLock(ctx, db, unix.F_RDLCK, sharedFirst, sharedSize)
		other := unix.Flock_t{Type: unix.F_WRLCK, Start: reservedByte, Len: 1}
		writes = unix.FcntlFlock(db.Fd(), unix.F_OFD_GETLK, &other) == nil && other.Type != unix.F_UNLCK
	}
	return unlock, writes
}

func waitLock(ctx context.Context, f *os.File, kind int16, start, length int64) {
	for deadline := time.Now().Add(lockWait); ; {
		err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Start: start, Len: length})
		if err == nil || time.Now().After(deadline) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(2 * time.Millisecond):
		}
	}
}
