-- What fleets have used of their quotas.

-- How many devices a fleet has that are not decommissioned. Apart from the fleet's row, which holds its policy and is
-- large.
CREATE TABLE fleet_devices (
    fleet INTEGER PRIMARY KEY REFERENCES fleets (key),
    devices INTEGER NOT NULL CHECK (devices >= 0)
) STRICT;

INSERT INTO fleet_devices (fleet, devices)
    SELECT fleet, count(*) FROM holders WHERE fleet IS NOT NULL AND status <> 'decommissioned' GROUP BY fleet;

CREATE TRIGGER count_new_devices AFTER INSERT ON holders
WHEN NEW.fleet IS NOT NULL AND NEW.status <> 'decommissioned' BEGIN
    INSERT INTO fleet_devices (fleet, devices) VALUES (NEW.fleet, 1)
        ON CONFLICT (fleet) DO UPDATE SET devices = devices + 1;
END;

CREATE TRIGGER count_devices_by_status AFTER UPDATE OF status ON holders
WHEN NEW.fleet IS NOT NULL AND (NEW.status = 'decommissioned') <> (OLD.status = 'decommissioned') BEGIN
    UPDATE fleet_devices SET devices = devices + (OLD.status = 'decommissioned') - (NEW.status = 'decommissioned')
        WHERE fleet = NEW.fleet;
END;

-- No device moves to another fleet, and none is forgotten: who writes that has to count it here.

-- Enrollments by the minute. Forgotten after an hour.
CREATE TABLE fleet_enrollments (
    fleet INTEGER NOT NULL REFERENCES fleets (key),
    minute INTEGER NOT NULL,
    enrollments INTEGER NOT NULL CHECK (enrollments > 0),
    PRIMARY KEY (fleet, minute)
) STRICT, WITHOUT ROWID;
