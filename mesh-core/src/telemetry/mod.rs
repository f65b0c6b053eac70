//! What is counted, logged and reported.
