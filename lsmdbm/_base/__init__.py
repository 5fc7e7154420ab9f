"""WORDS: what every layer says - errors, options, chunks, storage, caches.  Knows no LSM tree.

Files, in import order: public, errors, ending, forking, leftovers, options, chunk, intervals, process,
storage, paths, os_file, os_storage, lru.
"""
