"""Long work off the GUI thread: one worker class, lanes, one clock that hands events to panels."""
