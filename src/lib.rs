pub mod delivery;
pub mod leader;
pub mod routing;
