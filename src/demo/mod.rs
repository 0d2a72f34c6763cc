//! A private cluster and a tour.
