package process

import (
	"path/filepath"
	"strings"
)

// unifiedHierarchy is the key of the v2 hierarchy among the mounts.
const unifiedHierarchy = "v2"

// cgroupMount is a mounted hierarchy of control groups.
type cgroupMount struct {
	dir  string // mount point
	root string // the group of the hierarchy that is mounted there
	path string // our own group in the hierarchy
}

// ownGroup returns the directory of our own group.
func (m cgroupMount) ownGroup() string {
	rel := strings.TrimPrefix(m.path, strings.TrimSuffix(m.root, "/"))
	if dir := filepath.Join(m.dir, rel); !strings.HasPrefix(rel, "/..") && fileExists(dir, "cgroup.procs") {
		return dir
	}
	return m.dir
}

// findCgroupMounts returns the mounted hierarchies by controller. It reads files in
// the format of /proc/self/cgroup and /proc/self/mountinfo.
func findCgroupMounts(cgroupFile, mountinfo string) (map[string]cgroupMount, error) {
	own := map[string]string{}
	err := eachLine(cgroupFile, func(text string) {
		if part := strings.SplitN(text, ":", 3); len(part) == 3 {
			for name := range strings.SplitSeq(part[1], ",") {
				own[name] = part[2]
			}
		}
	})
	if err != nil {
		return nil, err
	}
	mounts := map[string]cgroupMount{}
	err = eachLine(mountinfo, func(text string) {
		left, right, ok := strings.Cut(text, " - ")
		from, to := strings.Fields(left), strings.Fields(right)
		if !ok || len(from) < 5 || len(to) < 3 {
			return
		}
		m := cgroupMount{dir: from[4], root: from[3]}
		switch to[0] {
		case "cgroup":
			for name := range strings.SplitSeq(to[2], ",") {
				m.path = own[name]
				mounts[name] = m
			}
		case "cgroup2":
			m.path = own[""]
			mounts[unifiedHierarchy] = m
		}
	})
	return mounts, err
}
