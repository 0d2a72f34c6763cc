//! Metric names, descriptions and pre-registered handles.
