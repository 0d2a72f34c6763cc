//! The one task that eats events: audit → detect → respond.
