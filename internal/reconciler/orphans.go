package reconciler

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/runtime"
)

// collectOrphansRegularly calls collectOrphans now and at every interval.
func (r *Reconciler) collectOrphansRegularly(ctx context.Context) {
	ticks := time.NewTicker(r.timing.OrphanInterval)
	defer ticks.Stop()
	for {
		if err := r.collectOrphans(ctx); err != nil && ctx.Err() == nil {
			r.log.ErrorContext(ctx, "collecting orphaned gateways failed", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
	}
}

// maxUnknown is how many agents of this installation may be unknown to the records at
// once and still be put into quarantine. None is unknown normally: a row is deleted
// after everything else of its agent. More come with an old or a wrong database.
const maxUnknown = 3

// collectOrphans puts agents that the records do not know into quarantine, and makes the
// records of agents that should not run know the gateways that do. A failure with one
// does not keep it from the others.
func (r *Reconciler) collectOrphans(ctx context.Context) error {
	found, err := r.driver.List(ctx)
	if err != nil {
		return fmt.Errorf("list gateways: %w", err)
	}
	var unknown []runtime.Found
	var failed error
	for _, f := range found {
		a, err := r.store.FindByID(ctx, r.db, f.ID)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			unknown, err = append(unknown, f), nil
		case err == nil && f.Owner != runtime.Foreign && f.Running && a.Place == "" && f.Place != "":
			err = r.adoptStray(ctx, f, a)
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("agent %s: %w", f.ID, err))
		}
	}
	return errors.Join(failed, r.collectUnknown(ctx, unknown))
}

// collectUnknown puts agents that the records do not know into quarantine, if they are
// this installation's own and few. It only reports the others.
func (r *Reconciler) collectUnknown(ctx context.Context, unknown []runtime.Found) error {
	unknown, err := r.stillListed(ctx, unknown)
	if err != nil {
		return err
	}
	own := slices.DeleteFunc(slices.Clone(unknown), func(f runtime.Found) bool { return f.Owner != runtime.Own })
	r.reportUnknown(ctx, unknown, len(own))
	if len(own) > maxUnknown {
		return nil
	}
	var failed error
	for _, f := range own {
		if _, err := r.do(ctx, agent.Agent{ID: f.ID, Place: f.Place}, observation{}, action{kind: actOrphan}); err != nil {
			failed = errors.Join(failed, fmt.Errorf("agent %s: %w", f.ID, err))
		}
	}
	return failed
}

// stillListed returns those that the driver still has: an agent may have been deleted
// between the list and the look at the records.
func (r *Reconciler) stillListed(ctx context.Context, unknown []runtime.Found) ([]runtime.Found, error) {
	if len(unknown) == 0 {
		return nil, nil
	}
	now, err := r.driver.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list gateways: %w", err)
	}
	now = slices.DeleteFunc(now, func(f runtime.Found) bool {
		return !slices.ContainsFunc(unknown, func(u runtime.Found) bool { return u.ID == f.ID })
	})
	slices.SortFunc(now, func(a, b runtime.Found) int { return cmp.Compare(a.ID, b.ID) })
	return now, nil
}

// reportUnknown logs and notes which agents the records do not know, when that has
// changed. own is how many of them are this installation's own.
func (r *Reconciler) reportUnknown(ctx context.Context, unknown []runtime.Found, own int) {
	byOwner := map[runtime.Owner][]string{}
	for _, f := range unknown {
		if f.Shared {
			continue
		}
		byOwner[f.Owner] = append(byOwner[f.Owner], string(f.ID))
	}
	report := fmt.Sprint(byOwner)
	if report == r.reported {
		return
	}
	r.reported = report
	var notes []string
	switch {
	case own > maxUnknown:
		notes = append(notes, describe("The database does not know agents that this installation has files of", byOwner[runtime.Own])+" Is the database an older or a wrong one?")
	case own > 0:
		r.log.WarnContext(ctx, "the database does not know agents that this installation has files of: they go into quarantine, see agento doctor", "agents", byOwner[runtime.Own])
	}
	if ids := byOwner[runtime.Foreign]; len(ids) > 0 {
		notes = append(notes, describe("There are files of agents of another installation", ids))
	}
	if ids := byOwner[runtime.Unmarked]; len(ids) > 0 {
		notes = append(notes, describe("There are files of agents that the database does not know and that do not say whose they are", ids))
	}
	for _, note := range notes {
		r.log.ErrorContext(ctx, note)
	}
	if r.note == nil {
		return
	}
	if err := r.note(strings.Join(notes, " ")); err != nil {
		r.log.ErrorContext(ctx, "noting unknown agents failed", "error", err)
		r.reported = "" // again at the next search
	}
}

// describe says what is the matter with agents, which may be many.
func describe(what string, ids []string) string {
	return fmt.Sprintf("%s (%d, such as %s): nothing is done with them.", what, len(ids), strings.Join(ids[:min(len(ids), 3)], ", "))
}

// quarantine stops the gateway of an agent that the records do not know, and puts
// everything of the agent aside.
func (r *Reconciler) quarantine(ctx context.Context, a agent.Agent) error {
	if err := r.driver.Stop(ctx, a.Place, a.ID, r.timing.StopGrace); err != nil {
		return err
	}
	return r.driver.Quarantine(ctx, a.ID)
}

// adoptStray writes the place of a gateway that runs, though the record knows of none,
// into the record. The agent's own loop then stops it. Such a gateway exists after a
// backup of the database was restored.
func (r *Reconciler) adoptStray(ctx context.Context, f runtime.Found, a agent.Agent) error {
	adopted, err := r.store.AdoptPlace(ctx, a, f.Place)
	if err != nil {
		return fmt.Errorf("adopt a stray gateway: %w", err)
	}
	if adopted {
		r.log.WarnContext(ctx, "a gateway runs whose agent does not", "agent", f.ID)
	}
	return nil
}
