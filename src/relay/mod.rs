//! Sockets, TLS, pump, cancel, drain.
