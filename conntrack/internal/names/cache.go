package names

// A cache keeps at most max entries, and at least the half of them that was used last. Its
// operations take constant time.
type cache[K comparable, V any] struct {
	max        int
	young, old map[K]V
	dropped    uint64 // entries that gave way
}

func (c *cache[K, V]) get(k K) (v V, ok bool) {
	if v, ok = c.young[k]; ok {
		return v, true
	}
	if v, ok = c.old[k]; ok {
		delete(c.old, k)
		c.put(k, v)
	}
	return v, ok
}

func (c *cache[K, V]) put(k K, v V) {
	if _, ok := c.young[k]; !ok && len(c.young) >= c.max/2 {
		c.dropped += uint64(len(c.old))
		c.old, c.young = c.young, nil
	}
	if c.young == nil {
		c.young = make(map[K]V)
	}
	c.young[k] = v
	delete(c.old, k)
}

func (c *cache[K, V]) remove(k K) {
	delete(c.young, k)
	delete(c.old, k)
}

func (c *cache[K, V]) len() int { return len(c.young) + len(c.old) }
