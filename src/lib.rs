//! pgbridge
