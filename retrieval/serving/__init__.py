"""What leaves the lab: bundles, recommendations, exports. It holds no model code."""
