-- How often any fleet has changed. What is read of all of them together is kept for as long as this is the same; whoever
-- changes a fleet in whatever way can't forget it.
CREATE TABLE fleets_revision (number INTEGER NOT NULL) STRICT;
INSERT INTO fleets_revision (number) VALUES (0);
CREATE TRIGGER fleet_added AFTER INSERT ON fleets BEGIN UPDATE fleets_revision SET number = number + 1; END;
CREATE TRIGGER fleet_changed AFTER UPDATE ON fleets BEGIN UPDATE fleets_revision SET number = number + 1; END;
CREATE TRIGGER fleet_removed AFTER DELETE ON fleets BEGIN UPDATE fleets_revision SET number = number + 1; END;
