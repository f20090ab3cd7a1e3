//! Where refresh tokens are kept between runs.
