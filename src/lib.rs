pub mod config;
pub mod leader;
pub mod routing;
