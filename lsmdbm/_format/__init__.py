"""BYTES: objects to bytes and back, given an open file.  No file names, levels or lifetimes.

Files, in import order: coding, columns, records, log_reader, manifest, bloom, envelope, block, dictionaries,
footer, table_writer, messages, table_parts, table_reader, table_check, salvage, position.  Every structure is
specified in docs/format.md.
"""
