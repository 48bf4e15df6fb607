"""The mesh's messages on the wire: `pb/` is generated from `pb/*.proto` (`make proto`), `convert` turns
snapshots into them and back without loss. Nothing here opens a connection."""
