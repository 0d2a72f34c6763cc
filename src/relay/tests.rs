//! The relay against hostile clients and a scripted server, with a mind that understands only enough.

mod double;
mod flow;
mod hostile;
mod simulation;
