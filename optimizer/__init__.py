"""The planner's room: forecasts, the rolling-horizon problem and its solver."""
