//! /metrics /healthz /readyz.
