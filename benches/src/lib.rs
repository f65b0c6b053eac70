//! Measurements, and the budget they are held against.
