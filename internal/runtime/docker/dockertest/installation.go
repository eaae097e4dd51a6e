package dockertest

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/moby/moby/client"
)

// SetInstallation makes an agent whose gateway does not run one of another installation: it removes its
// containers and makes the volume of its home again, with another label and the same files. The engine
// at host must run on this machine.
func SetInstallation(ctx context.Context, host, installation, agent, to string) error {
	c, err := client.New(client.WithHost(host))
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	all, err := c.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: make(client.Filters).Add("label", "agento.agent="+agent)})
	if err != nil {
		return err
	}
	for _, found := range all.Items {
		if _, err := c.ContainerRemove(ctx, found.ID, client.ContainerRemoveOptions{Force: true}); err != nil {
			return err
		}
	}
	name := "agento-" + installation + "-" + agent + "-home"
	old, err := c.VolumeInspect(ctx, name, client.VolumeInspectOptions{})
	if err != nil {
		return err
	}
	aside := filepath.Join(filepath.Dir(filepath.Dir(old.Volume.Mountpoint)), "aside-"+agent)
	if err := os.Rename(old.Volume.Mountpoint, aside); err != nil {
		return err
	}
	if _, err := c.VolumeRemove(ctx, name, client.VolumeRemoveOptions{Force: true}); err != nil {
		return err
	}
	labels := old.Volume.Labels
	labels["agento.installation"] = to
	made, err := c.VolumeCreate(ctx, client.VolumeCreateOptions{Name: name, Labels: labels})
	if err != nil {
		return err
	}
	return errors.Join(os.Remove(made.Volume.Mountpoint), os.Rename(aside, made.Volume.Mountpoint))
}
