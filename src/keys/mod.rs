//! Key providers: the keyring file.
